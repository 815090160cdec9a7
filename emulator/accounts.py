"""Several accounts beside each other: buckets, keys and an organisation.

A call on another account's bucket or key is judged as on AWS: the caller's own account must allow it and the resource's
policy too, with the caller's real keys (`aws:PrincipalArn`, `aws:PrincipalOrgID`, the headers of the request), and a
deny of either wins. Without: the bucket's policy sees the caller's account as root, without an organisation and without
what IAM allows the caller; nobody asks the key's policy. And the members of the organisation that a game day sets
(`organisation`, an id and its accounts) have its id in `aws:PrincipalOrgID`. Without: each account that ever asked is an
organisation of its own. And a variable in the resource of a statement (`${aws:PrincipalAccount}`) is the caller's.
Without: it is text, and matches nothing.
"""

import contextvars
import dataclasses
import re

import conditions

# Buckets of other accounts that this request was judged for.
JUDGED = contextvars.ContextVar("buckets_judged", default=frozenset())
ACCOUNT = re.compile(r"\d{12}")
VARIABLE = re.compile(r"\$\{([^}]+)\}")


def organisation(value):
    if value is None:
        return None
    accounts = value.get("accounts") if isinstance(value, dict) else None
    if not isinstance(accounts, list) or not re.fullmatch(r"o-[a-z0-9]{10,32}", str(value.get("id"))):
        raise ValueError("an organisation is an object with an `id` and a list `accounts`")
    if not all(isinstance(account, str) and ACCOUNT.fullmatch(account) for account in accounts):
        raise ValueError("accounts are twelve digits each")
    return value


def install(replace, iam_evaluator, responses, s3, kms):
    conditions.SETTINGS.organisation = None
    conditions.PARSERS["organisation"] = organisation

    def members(original):
        def principal_org_id(account):
            set_by_hand = conditions.SETTINGS.organisation
            if set_by_hand is None:
                return original(account)
            return set_by_hand["id"] if account in set_by_hand["accounts"] else None

        return principal_org_id

    def of_any_account(original):
        def bucket_policy_for_arn(arn):
            found = original(arn)
            bucket = arn.removeprefix("arn:aws:s3:::").split("/", 1)[0]
            owner = s3._bucket_owner_account(bucket)
            if found is not None or not arn.startswith("arn:aws:s3:::") or owner is None:
                return found
            JUDGED.set(JUDGED.get() | {bucket})
            policy = s3._bucket_policies.get_scoped(owner, None, bucket) or ""
            closed = s3._public_access_blocked(owner, bucket, "RestrictPublicBuckets")
            return ("" if closed and s3._policy_is_public(policy) else policy), owner

        return bucket_policy_for_arn

    def where_the_key_lives(original):
        def key_policy_for_arn(arn):
            parts = arn.split(":")
            if len(parts) != 6 or not ACCOUNT.fullmatch(parts[4]):
                return original(arn)
            with responses.request_scope(parts[4], parts[3]):
                return original(arn)

        return key_policy_for_arn

    def resolved(patterns, ctx):
        """Patterns with the caller's values; one of a variable that the caller has not stays, and matches nothing."""

        def value(found):
            name = found[1].split(",", 1)[0].strip()
            held = name if name in "*?$" else iam_evaluator._resolve_condition_key(name, ctx)
            return held if isinstance(held, str) else found[0]

        return [VARIABLE.sub(value, pattern) for pattern in patterns]

    def with_variables(original):
        def first_match(ctx, statements, effect):
            for statement in statements:
                if any("${" in pattern for pattern in (*statement.resources, *statement.not_resources)):
                    own = {name: resolved(getattr(statement, name), ctx) for name in ("resources", "not_resources")}
                    if original(ctx, [dataclasses.replace(statement, **own)], effect):
                        return statement
                elif original(ctx, [statement], effect):
                    return statement
            return None

        return first_match

    # Only who is judged by policies has a judgement; root of another account is let in by the bucket alone, as before.
    def as_judged(original):
        def foreign_bucket_allows(owner, bucket, *rest, **named):
            return bucket in JUDGED.get() or original(owner, bucket, *rest, **named)

        return foreign_bucket_allows

    def each_by_itself(original):
        def pin_request_caller(*arguments, **named):
            JUDGED.set(frozenset())
            return original(*arguments, **named)

        return pin_request_caller

    replace(iam_evaluator, "_first_match", with_variables)
    replace(iam_evaluator, "_principal_org_id", members)
    replace(iam_evaluator, "pin_request_caller", each_by_itself)
    replace(s3, "bucket_policy_for_arn", of_any_account)
    replace(s3, "_foreign_bucket_allows", as_judged)
    replace(kms, "key_policy_for_arn", where_the_key_lives)
