"""The doors of a function, one for each version and alias and one of its own, as AWS has them.

Without: all resource policies of a function are one list. A statement id may stand only once in all of it; what is taken
out of the function's own policy is taken out of those of its aliases; and the function's own policy shows their
statements. The URL of an alias is shown as one of the function itself.
"""

import json


def install(replace, lambda_svc):
    def alone(operation, qualifier_of):
        """Lets `operation` see the one policy that it is about."""

        def with_one_policy(func_name, *rest, **named):
            function = lambda_svc._functions.get(func_name)
            if function is None:
                return operation(func_name, *rest, **named)
            of = lambda_svc._policy_resource_arn(func_name, qualifier_of(*rest, **named))
            policy = function["policy"]
            others = [s for s in policy["Statement"] if s.get("Resource") != of]
            policy["Statement"] = [s for s in policy["Statement"] if s.get("Resource") == of]
            try:
                status, headers, body = operation(func_name, *rest, **named)
            finally:
                # The operation may have put another list in place.
                kept = function["policy"]["Statement"]
                empty = not kept
                function["policy"]["Statement"] = others + kept
            if empty and operation is getting:
                return lambda_svc.error_response_json(
                    "ResourceNotFoundException", "The resource you requested does not exist.", 404
                )
            return status, headers, body

        return with_one_policy

    getting = lambda_svc._get_policy

    def asked(path_qualifier, query_params):
        return lambda_svc._qualifier_from_path_or_query(path_qualifier, query_params)

    def of_adding(data, query_params=None, path_qualifier=None):
        return asked(path_qualifier, query_params)

    def of_removing(sid, query_params, path_qualifier=None):
        return asked(path_qualifier, query_params)

    def of_getting(query_params=None, path_qualifier=None):
        return asked(path_qualifier, query_params)

    replace(lambda_svc, "_add_permission", lambda original: alone(original, of_adding))
    replace(lambda_svc, "_remove_permission", lambda original: alone(original, of_removing))
    replace(lambda_svc, "_get_policy", lambda original: alone(original, of_getting))

    def of_an_alias(original):
        def create(name, data, qualifier):
            status, headers, body = original(name, data, qualifier)
            if status < 300 and qualifier and qualifier != "$LATEST":
                config = lambda_svc._function_urls[lambda_svc._url_config_key(name, qualifier)]
                config["FunctionArn"] = f"{config['FunctionArn']}:{qualifier}"
                body = json.dumps(config).encode()
            return status, headers, body

        return create

    replace(lambda_svc, "_create_function_url_config", of_an_alias)
