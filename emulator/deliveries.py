"""What EventBridge hands to a function is an asynchronous invocation: it waits while the function is throttled, is made
again twice where it fails, and is then kept by the function's own destination for failures.

Without: it is made once, and a failure leaves nothing behind.
"""

import contextvars
import json
import time

# For so long Lambda keeps an event of a function that may not run.
LONGEST = 6 * 3600

THROTTLED = "ReservedFunctionConcurrentInvocationLimitExceeded"

delivered = contextvars.ContextVar("delivered", default=False)


def install(replace, eventbridge, lambda_svc):
    def once_it_may_run(original):
        def execute(func, event, *rest, **named):
            began = time.time()
            while True:
                result = original(func, event, *rest, **named)
                throttled = delivered.get() and result.get("error") and THROTTLED in repr(result)
                if not throttled or time.time() - began > LONGEST:
                    return result
                time.sleep(0.2)

        return execute

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
            record = lambda_svc._execution_record_for_config(function, config)
            # The thread that it is carried out in takes over the context.
            token = delivered.set(True)
            try:
                lambda_svc.invoke_async_with_retry(record, event)
            finally:
                delivered.reset(token)

        return dispatch_to_lambda

    replace(eventbridge, "_dispatch_to_lambda", with_retries)
    replace(lambda_svc, "_execute_function", once_it_may_run)
