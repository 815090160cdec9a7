"""The ARN of a rule or a bus that a call of EventBridge is authorised on, as AWS has it.

Without: a bus is described on `*`; the calls that name a rule as `Rule` (its targets) are asked for `*` or for the bus; and a rule of the default
bus lies under `rule/default/`, where on AWS it lies under `rule/`.
"""

import json

BY_RULE = ("ListTargetsByRule", "PutTargets", "RemoveTargets")
BY_NAME = ("DescribeRule", "PutRule", "DeleteRule", "EnableRule", "DisableRule")
OF_BUS = ("DescribeEventBus",)


def install(replace, iam_actions, get_account_id, get_region):
    def of_the_rule(original):
        def extract_resource_arn(service, method, path, headers, body, query_params, *rest):
            action = headers.get("x-amz-target", "").rsplit(".", 1)[-1]
            if service == "events" and action in BY_RULE + BY_NAME + OF_BUS:
                try:
                    request = json.loads(body or b"{}")
                except ValueError:
                    request = {}
                if action in OF_BUS:
                    bus = str(request.get("Name") or "default").rsplit("/", 1)[-1]
                    return f"arn:aws:events:{get_region()}:{get_account_id()}:event-bus/{bus}"
                name = request.get("Rule" if action in BY_RULE else "Name")
                bus = str(request.get("EventBusName") or "default").rsplit("/", 1)[-1]
                if name:
                    place = name if bus == "default" else f"{bus}/{name}"
                    return f"arn:aws:events:{get_region()}:{get_account_id()}:rule/{place}"
            return original(service, method, path, headers, body, query_params, *rest)

        return extract_resource_arn

    replace(iam_actions, "extract_resource_arn", of_the_rule)
