"""What EventBridge hands to a function is an asynchronous invocation: made again twice where it fails, and then kept by
the function's own destination for failures.

Without: it is made once, and a failure leaves nothing behind.
"""

import json


def install(replace, eventbridge, lambda_svc):
    def with_retries(original):
        def dispatch_to_lambda(arn, payload):
            function, config, _ = lambda_svc._get_func_record_for_ref(arn)
            if not function or not config:
                original(arn, payload)
                return
            try:
                event = json.loads(payload)
            except (ValueError, TypeError):
                event = {"body": payload}
            lambda_svc.invoke_async_with_retry(lambda_svc._execution_record_for_config(function, config), event)

        return dispatch_to_lambda

    replace(eventbridge, "_dispatch_to_lambda", with_retries)
