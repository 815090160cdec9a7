"""What IAM says about managed policies, attached or as a boundary: quotas, policies that are not there, AWSDenyAll, and
the condition key `iam:PermissionsBoundary`. `launch.py` puts these corrections in force.
"""

from ministack.core import iam_actions
from ministack.services import iam

# The default quota of managed policies on one role, user or group.
MOST_ATTACHED = 10

DENY_ALL = '{"Version":"2012-10-17","Statement":[{"Sid":"DenyAll","Effect":"Deny","Action":["*"],"Resource":"*"}]}'

# By kind of principal: where the emulator keeps them, the parameter that names one, and the quota's name.
KINDS = {
    "Role": (iam._roles, "RoleName", "PoliciesPerRole"),
    "User": (iam._users, "UserName", "PoliciesPerUser"),
    "Group": (iam._groups, "GroupName", "PoliciesPerGroup"),
}

# The calls whose key holds the boundary that they set. For all others on a role or user it holds the one that is there.
SETTING = {"PutRolePermissionsBoundary", "PutUserPermissionsBoundary", "CreateRole", "CreateUser"}
HOLDING = {
    f"{verb}{kind}{what}"
    for kind in ("Role", "User")
    for verb, what in (
        ("Attach", "Policy"),
        ("Detach", "Policy"),
        ("Put", "Policy"),
        ("Delete", "Policy"),
        ("Delete", "PermissionsBoundary"),
    )
} | {"UpdateAssumeRolePolicy"}


def attaching(original, kind):
    """Without: any policy attaches, however many there are, and one that does not exist attaches too."""
    store, parameter, quota = KINDS[kind]

    def attach(params):
        entity = store.get(iam._p(params, parameter))
        policy = iam._p(params, "PolicyArn")
        if entity is not None:
            if not iam._policy_exists(policy):
                text = f"Policy {policy} does not exist or is not attachable."
                return iam._error(404, "NoSuchEntity", text, ns="iam")
            attached = entity.get("AttachedPolicies", [])
            if policy not in attached and len(attached) >= MOST_ATTACHED:
                text = f"Cannot exceed quota for {quota}: {MOST_ATTACHED}"
                return iam._error(409, "LimitExceeded", text, ns="iam")
        return original(params)

    return attach


def boundary_key(original):
    """Without: `iam:PermissionsBoundary` is never there, so that what is held to a boundary is never allowed, and what is
    denied by one never denied."""

    def request_tag_context(service, action, body, params):
        context = dict(original(service, action, body, params))
        name = action.partition(":")[2]
        boundary = None
        if service == "iam" and name in SETTING:
            boundary = iam_actions._query_param(params, "PermissionsBoundary")
        elif service == "iam" and name in HOLDING:
            store, parameter, _ = KINDS["User" if "User" in name else "Role"]
            entity = store.get(iam_actions._query_param(params, parameter)) or {}
            boundary = entity.get("PermissionsBoundary")
        if boundary:
            context["iam:PermissionsBoundary"] = boundary
        return context

    return request_tag_context


def with_boundaries(original):
    """Without: GetAccountAuthorizationDetails shows no role or user with a boundary."""

    def details(params):
        status, headers, body = original(params)
        text = body.decode() if isinstance(body, bytes) else body
        for entity in (*iam._roles.values(), *iam._users.values()):
            if arn := entity.get("PermissionsBoundary"):
                which = "RoleId" if "RoleId" in entity else "UserId"
                unique = f"<{which}>{entity[which]}</{which}>"
                boundary = (
                    "<PermissionsBoundary><PermissionsBoundaryType>PermissionsBoundaryPolicy</PermissionsBoundaryType>"
                    f"<PermissionsBoundaryArn>{arn}</PermissionsBoundaryArn></PermissionsBoundary>"
                )
                text = text.replace(unique, unique + boundary)
        return status, headers, text.encode() if isinstance(body, bytes) else text

    return details


def correct(replace, refuse):
    details = "GetAccountAuthorizationDetails"
    if details not in iam._IAM_HANDLERS:
        refuse(f"the handler of {details} is gone")
    iam._IAM_HANDLERS[details] = with_boundaries(iam._IAM_HANDLERS[details])
    for kind in KINDS:
        name = f"Attach{kind}Policy"
        if name not in iam._IAM_HANDLERS:
            refuse(f"the handler of {name} is gone")
        iam._IAM_HANDLERS[name] = attaching(iam._IAM_HANDLERS[name], kind)
    replace(iam_actions, "request_tag_context", boundary_key)
    # Without: the policy is not known, and denies nothing wherever it is attached.
    deny_all = iam._make_aws_managed_record("AWSDenyAll", DENY_ALL, "Deny all access.")
    iam._aws_managed_policies.setdefault(deny_all["Arn"], deny_all)
