"""Published versions, aliases and provisioned concurrency of Lambda functions, as AWS has them.

Without: ListProvisionedConcurrencyConfigs is not known; anything is provisioned for anything, `$LATEST` included, at
once, in the environments that serve on demand, and beyond what is reserved; an alias leads to versions that are not
there, and shares traffic with the one that it leads to; PublishVersion heeds neither `RevisionId` nor `CodeSha256`.
"""

import json


def install(replace, lambda_svc, lambda_runtime):
    def refused(code, message, status=400):
        return lambda_svc.error_response_json(code, message, status)

    def invalid(message):
        return refused("InvalidParameterValueException", message)

    def pool(version, qualifier):
        """Environments that are provisioned for a qualifier serve it before those on demand, and end with it."""
        return f"{version} provisioned for {qualifier}"

    def end_environments(name, qualifier):
        suffix = f" provisioned for {qualifier}"
        for key in [key for key in lambda_runtime._workers if key.endswith(suffix)]:
            account, region, of, kept = key.split(":")
            if of == name:
                lambda_runtime.invalidate_worker(name, qualifier=kept, account=account, region=region)

    def provisioned_environments(original):
        def acquire_worker(func_name, config, code_zip, qualifier="$LATEST", max_concurrency=None):
            called = config.get("FunctionArn", "").split(":")[7:]
            function = lambda_svc._functions.get(func_name) or {}
            if called and called[0] in function.get("provisioned_concurrency", {}):
                qualifier = pool(qualifier, called[0])
            return original(func_name, config, code_zip, qualifier=qualifier, max_concurrency=max_concurrency)

        return acquire_worker

    def seen(config):
        """What a look shows; by the next one Lambda has made it ready."""
        shown = dict(config)
        if config["Status"] == "IN_PROGRESS":
            ready = config["RequestedProvisionedConcurrentExecutions"]
            config.update(
                Status="READY",
                AvailableProvisionedConcurrentExecutions=ready,
                AllocatedProvisionedConcurrentExecutions=ready,
            )
        return shown

    def getting(original):
        def get(name, qualifier):
            status, headers, body = original(name, qualifier)
            if status < 300:
                body = json.dumps(seen(lambda_svc._functions[name]["provisioned_concurrency"][qualifier])).encode()
            return status, headers, body

        return get

    def putting(original):
        def put(name, qualifier, data):
            function = lambda_svc._functions.get(name)
            if function is None:
                return original(name, qualifier, data)
            if not qualifier or qualifier == "$LATEST":
                return invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
            alias = function["aliases"].get(qualifier)
            if alias and alias["FunctionVersion"] == "$LATEST":
                return invalid("Alias with unpublished version can not be used with Provisioned Concurrency")
            if alias and alias.get("RoutingConfig"):
                return invalid("Alias with weights can not be used with Provisioned Concurrency")
            held = function.get("provisioned_concurrency", {})
            others = sum(c["RequestedProvisionedConcurrentExecutions"] for q, c in held.items() if q != qualifier)
            reserved = function.get("concurrency")
            if reserved is not None and others + data.get("ProvisionedConcurrentExecutions", 0) > reserved:
                return invalid("Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
            status, headers, body = original(name, qualifier, data)
            if status < 300:
                config = function["provisioned_concurrency"][qualifier]
                config.update(
                    Status="IN_PROGRESS",
                    AvailableProvisionedConcurrentExecutions=0,
                    AllocatedProvisionedConcurrentExecutions=0,
                )
                body = json.dumps(config).encode()
            return status, headers, body

        return put

    def deleting(original):
        def delete(name, qualifier):
            if not qualifier or qualifier == "$LATEST":
                return invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
            status, headers, body = original(name, qualifier)
            if status < 300:
                end_environments(name, qualifier)
            return status, headers, body

        return delete

    def listing(original):
        async def handle_request(method, path, headers, body, query_params):
            if method == "GET" and path.endswith("/provisioned-concurrency") and "List" in query_params:
                target = path.split("/functions/", 1)[1].removesuffix("/provisioned-concurrency")
                name = lambda_svc._resolve_request_scoped_name(lambda_svc.unquote(target))
                function = lambda_svc._functions.get(name)
                if function is None:
                    return refused("ResourceNotFoundException", f"Function not found: {lambda_svc._func_arn(name)}", 404)
                held = function.get("provisioned_concurrency", {})
                items = [{"FunctionArn": f"{lambda_svc._func_arn(name)}:{q}", **seen(held[q])} for q in sorted(held)]
                return lambda_svc.json_response({"ProvisionedConcurrencyConfigs": items})
            return await original(method, path, headers, body, query_params)

        return handle_request

    def publishing(original):
        def publish(name, data):
            function = lambda_svc._functions.get(name)
            if function is not None:
                config = function["config"]
                if data.get("RevisionId") and data["RevisionId"] != config.get("RevisionId"):
                    return refused("PreconditionFailedException", "The RevisionId provided does not match.", 412)
                if data.get("CodeSha256") and data["CodeSha256"] != config.get("CodeSha256"):
                    return invalid("CodeSHA256 is different from current CodeSHA256 in $LATEST.")
                if config.get("LastUpdateStatus") == "InProgress":
                    message = "The operation cannot be performed at this time. An update is in progress for resource"
                    return refused("ResourceConflictException", f"{message}: {lambda_svc._func_arn(name)}", 409)
            return original(name, data)

        return publish

    def fits(name, alias, data):
        """What AWS refuses of where an alias is to lead; None where it takes it."""
        function = lambda_svc._functions.get(name)
        if function is None:
            return None
        version = data.get("FunctionVersion", alias.get("FunctionVersion", "$LATEST"))
        routing = data.get("RoutingConfig", alias.get("RoutingConfig")) or {}
        weights = routing.get("AdditionalVersionWeights") or {}
        for one in [version, *weights]:
            if one != "$LATEST" and one not in function["versions"]:
                return refused("ResourceNotFoundException", f"Function not found: {lambda_svc._func_arn(name)}:{one}", 404)
        if weights and ("$LATEST" in (version, *weights) or len(weights) > 1):
            return invalid("An alias with weights leads to two published versions.")
        if version in weights:
            return invalid(f"Invalid function version {version}. Alias routing must not name the version that it leads to.")
        held = alias.get("Name") in function.get("provisioned_concurrency", {})
        if held and (weights or version == "$LATEST"):
            return invalid("Alias with weights can not be used with Provisioned Concurrency")
        return None

    def creating(original):
        def create(name, data):
            return fits(name, {}, data) or original(name, data)

        return create

    def updating(original):
        def update(name, alias_name, data):
            function = lambda_svc._functions.get(name) or {}
            alias = function.get("aliases", {}).get(alias_name, {})
            before = alias.get("FunctionVersion")
            problem = fits(name, alias, data) if alias else None
            status, headers, body = problem or original(name, alias_name, data)
            if status < 300 and alias_name in function.get("provisioned_concurrency", {}) and alias["FunctionVersion"] != before:
                # Lambda allocates anew for the version that the alias leads to now.
                function["provisioned_concurrency"][alias_name]["Status"] = "IN_PROGRESS"
                end_environments(name, alias_name)
            return status, headers, body

        return update

    replace(lambda_svc, "acquire_worker", provisioned_environments)
    replace(lambda_svc, "_get_provisioned_concurrency", getting)
    replace(lambda_svc, "_put_provisioned_concurrency", putting)
    replace(lambda_svc, "_delete_provisioned_concurrency", deleting)
    replace(lambda_svc, "handle_request", listing)
    replace(lambda_svc, "_publish_version", publishing)
    replace(lambda_svc, "_create_alias", creating)
    replace(lambda_svc, "_update_alias", updating)
