"""The code packages of functions and layers, at addresses as AWS gives them.

Without: GetFunction gives one address for all versions of a function, which lies open to everybody for ever and holds the
code of `$LATEST`; that of a layer likewise; and reading a version of a layer is authorised as ListLayers on everything.
Here an address is good for ten minutes and for the version that was asked for.
"""

import json
import secrets
import time

GOOD_FOR = 600


def install(replace, lambda_svc, iam_actions):
    # What lies at an address, and until when.
    addresses = {}

    def address(kind, package):
        token = secrets.token_urlsafe(24)
        addresses[token] = (package, time.time() + GOOD_FOR)
        port = lambda_svc.os.environ.get("GATEWAY_PORT", "4566")
        query = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires={GOOD_FOR}&X-Amz-SignedHeaders=host&X-Amz-Signature=x"
        return f"http://{lambda_svc._MINISTACK_HOST}:{port}/_ministack/lambda-code/{token}?{query}"

    def served(_):
        def serve(token, account_id=None, region=None):
            package, until = addresses.get(token, (None, 0))
            if account_id or package is None or time.time() > until:
                return 403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>"
            return 200, {"Content-Type": "application/zip"}, package

        return serve

    def of_the_version(original):
        def get_function(name, qualifier=None):
            status, headers, body = original(name, qualifier)
            answer = json.loads(body)
            if status < 300 and "Location" in answer.get("Code", {}):
                record, _ = lambda_svc._get_func_record_for_qualifier(name, qualifier)
                answer["Code"]["Location"] = address("code", record.get("code_zip") or b"")
                body = json.dumps(answer).encode()
            return status, headers, body

        return get_function

    def of_the_layer(original):
        def get_layer_version(layer_name, version):
            status, headers, body = original(layer_name, version)
            answer = json.loads(body)
            if status < 300 and "Content" in answer:
                layer = lambda_svc._layers.get(layer_name) or {"versions": []}
                data = [one.get("_zip_data") for one in layer["versions"] if one["Version"] == version]
                answer["Content"]["Location"] = address("layer", data[0] or b"" if data else b"")
                body = json.dumps(answer).encode()
            return status, headers, body

        return get_layer_version

    def closed(_):
        def serve(layer_name, version, account_id=None, region=None):
            return 403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>"

        return serve

    replace(lambda_svc, "serve_function_code", served)
    replace(lambda_svc, "serve_layer_content", closed)
    replace(lambda_svc, "_get_function", of_the_version)
    replace(lambda_svc, "_get_layer_version", of_the_layer)

    def is_a_version(service, path, params):
        find = (params or {}).get("find")
        return service == "lambda" and "/layers" in path and find in ("LayerVersion", ["LayerVersion"])

    def asked_for(original):
        def extract_iam_action(service, method, path, headers, body, query_params=None):
            if is_a_version(service, path, query_params):
                return "lambda:GetLayerVersion"
            return original(service, method, path, headers, body, query_params)

        return extract_iam_action

    def asked_of(original):
        def extract_resource_arn(service, method, path, headers, body, query_params, *rest):
            if is_a_version(service, path, query_params):
                arn = query_params.get("Arn")
                return arn[0] if isinstance(arn, list) else arn
            return original(service, method, path, headers, body, query_params, *rest)

        return extract_resource_arn

    replace(iam_actions, "extract_iam_action", asked_for)
    replace(iam_actions, "extract_resource_arn", asked_of)
