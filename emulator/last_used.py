"""GenerateServiceLastAccessedDetails is authorised on the role, user, group or policy that it asks about, and
GetAccessKeyLastUsed on the user whose key it is.

Without: on `*`, so that nobody may call them whose policy names what they may be called on.
"""


def install(replace, iam, iam_actions):
    def user_of(key):
        record = iam._access_keys.get(key)
        user = iam._users.get(record.get("UserName")) if record else None
        return user["Arn"] if user else "*"

    def of_whom(original):
        def extract_resource_arn(service, method, path, headers, body, query_params, *rest):
            asked = service == "iam" and iam_actions._query_param(query_params, "Action")
            if asked == "GenerateServiceLastAccessedDetails":
                return iam_actions._query_param(query_params, "Arn") or "*"
            if asked == "GetAccessKeyLastUsed":
                return user_of(iam_actions._query_param(query_params, "AccessKeyId"))
            return original(service, method, path, headers, body, query_params, *rest)

        return extract_resource_arn

    replace(iam_actions, "extract_resource_arn", of_whom)
