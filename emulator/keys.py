"""A call on a KMS key has the aliases of that key in `kms:ResourceAliases`.

Without: the key is never present, so that a policy that protects keys by their aliases protects none.
"""

import json


def install(replace, iam_actions, kms):
    def key_of(body):
        try:
            request = json.loads(body or b"{}")
        except ValueError:
            return None
        named = request.get("KeyId") or request.get("TargetKeyId") if isinstance(request, dict) else None
        return str(named).rsplit("/", 1)[-1] if named else None

    def with_aliases(original):
        def request_tag_context(service, action, body, params):
            context = dict(original(service, action, body, params))
            key = key_of(body) if service == "kms" else None
            if key:
                of_it = [arn for arn, target in kms._aliases.items() if target == key]
                if of_it:
                    context["kms:ResourceAliases"] = [arn.split(":")[-1] for arn in of_it]
            return context

        return request_tag_context

    replace(iam_actions, "request_tag_context", with_aliases)
