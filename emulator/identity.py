"""Who is calling, as AWS has it: a session belongs to the role's unique id, and is its role to a policy.

Without: a session of a deleted role lives on in a role that is made again under the name; `aws:PrincipalArn` of a
session is the session's ARN, where on AWS it is that of the role, path included; `aws:userid` of a function begins
with its role's name, where on AWS it is the role's unique id.
"""


def role_of(credential):
    """The role of an assumed-role session, as it is now; None where it is gone or another one."""
    from ministack.core import iam_evaluator
    from ministack.services import iam

    name = iam_evaluator._role_name_from_assumed_arn(credential.principal_arn)
    role = iam._roles.get_scoped(credential.account_id, None, name)
    role_id, _, session = credential.principal_id.partition(":")
    return role if role and (not session or role["RoleId"] == role_id) else None


def is_whoever_it_was(credential):
    from ministack.services import iam, sts

    if credential.principal_type == "AssumedRole":
        return role_of(credential) is not None
    if credential.principal_type == "User" and credential.access_key_id in sts._sessions:
        user = iam._users.get_scoped(credential.account_id, None, credential.principal_name)
        return bool(user) and user["UserId"] == credential.principal_id
    return True


def install(replace, iam_evaluator, lambda_runtime, lambda_svc):
    def of_the_unique_id(original):
        def resolve_principal(access_key_id, account_id, credential=None):
            credential = credential or iam_evaluator.resolve_credential(access_key_id, account_id)
            if isinstance(credential, iam_evaluator.ResolvedCredential) and not is_whoever_it_was(credential):
                message = "The security token included in the request is invalid"
                return iam_evaluator.AuthError("InvalidClientTokenId", message)
            return original(access_key_id, account_id, credential)

        return resolve_principal

    def with_the_role(original):
        def keys(credential):
            found = original(credential)
            role = role_of(credential) if credential.principal_type == "AssumedRole" else None
            return {**found, "firebreak:rolearn": role["Arn"]} if role else found

        return keys

    def the_roles_arn(original):
        def resolve(key, ctx):
            if key.lower() == "aws:principalarn":
                return ctx.principal_keys.get("firebreak:rolearn", ctx.principal_arn)
            return original(key, ctx)

        return resolve

    def under_the_roles_id(original):
        def execution_credentials(config):
            from ministack.services import iam, sts

            found = original(config)
            session = sts._sessions.get(found["AWS_ACCESS_KEY_ID"])
            name, _, function = (session or {}).get("UserId", "").partition(":")
            role = iam._roles.get_scoped(config["FunctionArn"].split(":")[4], None, name)
            if role:
                session["UserId"] = f"{role['RoleId']}:{function}"
            return found

        return execution_credentials

    for module in (lambda_runtime, lambda_svc):
        replace(module, "execution_credentials", under_the_roles_id)
    replace(iam_evaluator, "resolve_principal", of_the_unique_id)
    replace(iam_evaluator, "_principal_keys", with_the_role)
    replace(iam_evaluator, "_resolve_condition_key", the_roles_arn)
