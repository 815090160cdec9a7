"""A function's reserved concurrency as the template sets it.

Without: `ReservedConcurrentExecutions` of a template is dropped.
"""


def install(refuse, lambda_svc, provisioners):
    entry = provisioners._RESOURCE_HANDLERS.get("AWS::Lambda::Function", {})
    if "create" not in entry:
        refuse("a function of a template has another place")
    original = entry["create"]

    def create(logical_id, props, stack_name):
        name, attributes = original(logical_id, props, stack_name)
        reserved = props.get("ReservedConcurrentExecutions")
        if reserved is not None:
            lambda_svc._functions[name]["concurrency"] = int(reserved)
        return name, attributes

    entry["create"] = create
