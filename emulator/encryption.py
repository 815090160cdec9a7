"""Objects under a KMS key: whoever writes or reads one needs the key as well, and the key must be enabled.

A write is also `kms:GenerateDataKey`, a read `kms:Decrypt`, a part of an upload and its end `kms:Decrypt`, each by S3
(`kms:ViaService`), judged by IAM and by the key's policy. A key that is disabled or not there is an error of S3's.
Without: nobody is asked about keys, and any name of one will do. And a write says whether it makes an object
(`s3:ObjectCreationOperation`) and on what condition (`s3:if-none-match`). Without: neither is ever present.
"""

HEADER = "x-amz-server-side-encryption-aws-kms-key-id"


def install(replace, iam_actions, iam_evaluator, responses, s3, kms):
    def arn_of(key):
        if not key or key.startswith("arn:"):
            return key
        return f"arn:aws:kms:{responses.get_region()}:{responses.get_account_id()}:key/{key}"

    def state(key):
        parts = (arn_of(key) or "").split(":")
        if len(parts) != 6:
            return None
        with responses.request_scope(parts[4], parts[3]):
            record = kms._resolve_key(arn_of(key))
        return record["KeyState"] if record else None

    def unusable(headers):
        """S3's error where the key of this encryption cannot be used."""
        key = headers.get(HEADER)
        if headers.get("x-amz-server-side-encryption") != "aws:kms" or not key:
            return None
        found = state(key)
        if found == "Enabled":
            return None
        if found is None:
            return s3._error("KMS.NotFoundException", f"Key '{arn_of(key)}' does not exist", 400)
        code = "KMS.DisabledException" if found == "Disabled" else "KMS.KMSInvalidStateException"
        return s3._error(code, f"{arn_of(key)} is {found.lower()}.", 400)

    def written_with(bucket, owner, headers):
        if headers.get("x-amz-server-side-encryption"):
            return headers.get(HEADER) if headers["x-amz-server-side-encryption"] == "aws:kms" else None
        with responses.request_scope(owner, responses.get_region()):
            return s3._bucket_default_sse_headers(bucket).get(HEADER)

    def stored_with(owner, bucket, key, version):
        with responses.request_scope(owner, responses.get_region()):
            record = (s3._buckets.get(bucket) or {}).get("objects", {}).get(key)
            for one in s3._object_versions.get((bucket, key), []):
                if version and one["version_id"] == version:
                    record = one.get("obj_record", one)
        return (record or {}).get("preserved_headers", {}).get(HEADER)

    def upload_with(owner, upload):
        record = s3._multipart_uploads.get_scoped(owner, None, upload) or {}
        return record.get("preserved_headers", {}).get(HEADER)

    def uses(method, path, headers, query):
        bucket, _, key = path.lstrip("/").partition("/")
        owner = s3._bucket_owner_account(bucket)
        if not key or owner is None:
            return
        action = iam_actions._s3_action(method, path, query)
        if action == "PutObject" and (upload := iam_actions._query_param(query, "uploadId")):
            yield "kms:Decrypt", upload_with(owner, upload)
        elif action == "PutObject":
            yield "kms:GenerateDataKey", written_with(bucket, owner, headers)
        # What HEAD tells is not encrypted, but for the checksum.
        elif action in ("GetObject", "GetObjectVersion") and (
            method == "GET" or headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
        ):
            yield "kms:Decrypt", stored_with(owner, bucket, key, iam_actions._query_param(query, "versionId"))

    def with_the_key(original):
        def s3_additional_checks(method, path, headers, body, query):
            asked = [(action, arn_of(key)) for action, key in uses(method, path, headers, query) if key]
            return [*original(method, path, headers, body, query), *asked]

        return s3_additional_checks

    def by_s3(original):
        def enforce(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
            if service == "s3" and iam_action.startswith("kms:"):
                via = {**(service_context or {}), "kms:ViaService": f"s3.{region}.amazonaws.com"}
                return original(access_key_id, iam_action, "kms", region, resource_arn, via)
            return original(access_key_id, iam_action, service, region, resource_arn, service_context)

        return enforce

    def on_condition(original):
        def s3_service_context(action, query, path="", headers=None):
            context = dict(original(action, query, path, headers))
            if action == "s3:PutObject":
                query = query or {}
                part = iam_actions._query_param(query, "partNumber")
                context["s3:ObjectCreationOperation"] = str(not part and "uploads" not in query).lower()
                if condition := (headers or {}).get("if-none-match"):
                    context["s3:if-none-match"] = condition
            return context

        return s3_service_context

    def writes(original):
        def resolve(headers, bucket):
            found, error = original(headers, bucket)
            return (found, error) if error is not None else (found, unusable(found or {}))

        return resolve

    def of_the_record(original):
        def check(headers, record, *rest):
            refused = original(headers, record, *rest)
            return refused if refused is not None else unusable(record.get("preserved_headers", {}))

        return check

    replace(iam_actions, "s3_additional_checks", with_the_key)
    replace(iam_actions, "s3_service_context", on_condition)
    replace(iam_evaluator, "enforce", by_s3)
    replace(s3, "_resolve_sse_write_headers", writes)
    for check in ("_check_sse_read_headers", "_check_sse_c_part"):
        replace(s3, check, of_the_record)
