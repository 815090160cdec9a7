"""A table's own policy: set by the template, and asked when somebody calls DynamoDB.

Without: the template's policy is dropped, a policy that was put is shown and asks nobody, and to read or change one is
authorised on `*`.
"""

import json

OF_POLICY = ("DeleteResourcePolicy", "GetResourcePolicy", "PutResourcePolicy")


def install(replace, refuse, iam_actions, iam_evaluator, dynamodb, provisioners, get_account_id):
    policies = getattr(dynamodb, "_resource_policies", None)
    lookups = getattr(iam_evaluator, "_RESOURCE_POLICY_LOOKUPS", None)
    entry = provisioners._RESOURCE_HANDLERS.get("AWS::DynamoDB::Table", {})
    if policies is None or lookups is None or "dynamodb" in lookups or "create" not in entry:
        refuse("the policy of a table has another place")

    def table_policy_for_arn(arn):
        if "/stream/" in arn:
            return None
        held = policies.get(arn.split("/index/", 1)[0])
        return (held["Policy"], get_account_id()) if held else None

    dynamodb.table_policy_for_arn = table_policy_for_arn
    lookups["dynamodb"] = ("dynamodb", "table_policy_for_arn")

    original = entry["create"]

    def create(logical_id, props, stack_name):
        name, attributes = original(logical_id, props, stack_name)
        document = (props.get("ResourcePolicy") or {}).get("PolicyDocument")
        if document:
            status, _, body = dynamodb._put_resource_policy(
                {"ResourceArn": attributes["Arn"], "Policy": json.dumps(document)}
            )
            if status != 200:
                raise ValueError(f"the policy of `{name}` is refused: {body!r}")
        return name, attributes

    entry["create"] = create

    def of_the_table(original):
        def extract_resource_arn(service, method, path, headers, body, query_params, *rest):
            action = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
            if service == "dynamodb" and action in OF_POLICY:
                try:
                    return json.loads(body)["ResourceArn"]
                except (KeyError, TypeError, ValueError):
                    pass
            return original(service, method, path, headers, body, query_params, *rest)

        return extract_resource_arn

    replace(iam_actions, "extract_resource_arn", of_the_table)
