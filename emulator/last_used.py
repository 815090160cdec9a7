"""GenerateServiceLastAccessedDetails is authorised on the role, user, group or policy that it asks about.

Without: on `*`, so that nobody may call it whose policy names what it may be called on.
"""


def install(replace, iam_actions):
    def of_whom(original):
        def extract_resource_arn(service, method, path, headers, body, query_params, *rest):
            asked = service == "iam" and iam_actions._query_param(query_params, "Action")
            if asked == "GenerateServiceLastAccessedDetails":
                return iam_actions._query_param(query_params, "Arn") or "*"
            return original(service, method, path, headers, body, query_params, *rest)

        return extract_resource_arn

    replace(iam_actions, "extract_resource_arn", of_whom)
