"""The organisation's service control policies, evaluated for every caller.

Their explicit denials win over anything that identity and resource policies allow. As on AWS they do not bind
service-linked roles; root, whom they bind on AWS, is here the operator of the game day and is let through. Their allow
statements are not asked for: they stand beside `FullAWSAccess`. Without: there is none. And a rule of the
default bus is `rule/NAME`; without: `rule/default/NAME`, which no policy for AWS names.
"""

import contextvars
import json

import conditions

DENIED = contextvars.ContextVar("denied_by_the_organisation", default=False)
SERVICE_LINKED = ":role/aws-service-role/"
KEPT = 1000


def install(replace, iam_actions, iam_evaluator, account_id):
    def statements_of(policies):
        return [statement for policy in policies for statement in iam_evaluator.parse_policy_document(policy)]

    def denial(access_key_id, action, service, region, resource_arn, service_context):
        policies = conditions.SETTINGS.scps
        if not policies or action in iam_evaluator._ALWAYS_ALLOWED_ACTIONS:
            return None
        principal = iam_evaluator.resolve_principal(access_key_id or "", account_id())
        if isinstance(principal, iam_evaluator.AuthError) or principal.policies is None:
            return None
        if SERVICE_LINKED in principal.keys.get("firebreak:rolearn", ""):
            return None
        statements = statements_of(policies)
        context = {key.lower(): value for key, value in (service_context or {}).items()}
        context.setdefault("aws:tagkeys", None)
        if iam_evaluator._names_condition_key([statements], "aws:resourcetag/"):
            from ministack.services.tagging import resource_tags

            for name, value in (resource_tags(resource_arn) or {}).items():
                context.setdefault(f"aws:resourcetag/{name}".lower(), value)
        ctx = iam_evaluator.EvalContext(
            principal_arn=principal.arn,
            principal_type=principal.type,
            principal_account=principal.account,
            action=action,
            resource_arn=resource_arn,
            region=region,
            service_context=context,
            principal_keys=principal.keys,
        )
        statement = iam_evaluator._first_match(ctx, statements, "Deny")
        if statement is None:
            return None
        kept = conditions.COUNTED.scp_denials
        kept.append({"principal": principal.arn, "action": action, "resource": resource_arn, "sid": statement.sid})
        del kept[:-KEPT]
        return iam_evaluator.EvalResult("Deny", principal.arn, statement.sid, "service control policy")

    def judged(_, body):
        """Which of these calls the policies deny, as the emulator evaluates them: a second opinion for the tests."""
        if not conditions.SETTINGS.scps:
            raise ValueError("no service control policy is set")
        statements = statements_of(conditions.SETTINGS.scps)
        found = []
        for row in json.loads(body)["calls"]:
            ctx = iam_evaluator.EvalContext(
                principal_arn=row["principal"],
                principal_type="AssumedRole",
                principal_account=account_id(),
                action=row["action"],
                resource_arn=row["resource"],
                region="us-east-1",
                service_context={"aws:tagkeys": None, **row["keys"]},
            )
            found.append(iam_evaluator._first_match(ctx, statements, "Deny") is not None)
        return {"denied": found}

    conditions.PATHS["/_firebreak/judge"] = judged

    def under_the_policy(original):
        def enforce(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
            DENIED.set(False)
            refused = original(access_key_id, iam_action, service, region, resource_arn, service_context)
            if refused:
                return refused
            refused = denial(access_key_id, iam_action, service, region, resource_arn, service_context)
            DENIED.set(refused is not None)
            return refused

        return enforce

    def naming_the_policy(original):
        def access_denied_response(*arguments, **named):
            status, headers, body = original(*arguments, **named)
            if DENIED.get():
                here, there = b"in an identity-based policy", b"in a service control policy"
                body = body.replace(here, there)
            return status, headers, body

        return access_denied_response

    def rules_of_the_default_bus(original):
        def extract_resource_arn(service, *arguments):
            arn = original(service, *arguments)
            return arn.replace(":rule/default/", ":rule/", 1) if service == "events" and isinstance(arn, str) else arn

        return extract_resource_arn

    replace(iam_actions, "extract_resource_arn", rules_of_the_default_bus)
    replace(iam_evaluator, "enforce", under_the_policy)
    replace(iam_actions, "access_denied_response", naming_the_policy)
