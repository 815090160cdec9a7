"""What the sessions of a user's key may do, as AWS has it: those of GetSessionToken and of GetFederationToken.

Without: a federated session without a policy of its own may do what the user may, where on AWS it may do nothing; both
kinds call IAM, and STS to go on from there as they like, where on AWS neither calls IAM (the first would with MFA,
which nobody has here), the first calls nothing of STS but AssumeRole, the second nothing; and a federated session of
a user that was deleted lives on in a user that is made again under the name.
"""

ALWAYS = ("sts:GetCallerIdentity",)
GOES_ON = ALWAYS + ("sts:AssumeRole",)


def install(replace, iam_evaluator, sts, iam):
    def kind(access_key_id):
        """`GetSessionToken`'s session is the user's own, `GetFederationToken`'s a federated user's."""
        session = sts._sessions.get(access_key_id or "") or {}
        return session.get("PrincipalType"), session

    def within_nothing(original):
        def limits(session, account_id):
            found = original(session, account_id)
            if session.get("PrincipalType") == "FederatedUser" and not found:
                return [[]]
            return found

        return limits

    def no_further(original):
        def enforce(access_key_id, iam_action, *arguments, **named):
            of, _ = kind(access_key_id)
            service = iam_action.partition(":")[0]
            if of in ("User", "FederatedUser") and service == "iam":
                message = "The security token included in the request is invalid"
                return iam_evaluator.AuthError("InvalidClientTokenId", message)
            lets = {"User": GOES_ON, "FederatedUser": ALWAYS}.get(of)
            if service == "sts" and lets and iam_action not in lets:
                return iam_evaluator.AuthError("AccessDenied", f"Cannot call {iam_action[4:]} with session credentials")
            return original(access_key_id, iam_action, *arguments, **named)

        return enforce

    def of_the_user(original):
        def register(access_key, session):
            if session.get("PrincipalType") == "FederatedUser":
                user = iam._users.get_scoped(session.get("AccountId"), None, session.get("PrincipalName"))
                session["FirebreakUserId"] = (user or {}).get("UserId")
            return original(access_key, session)

        return register

    def while_it_is_that_user(original):
        def resolve(access_key_id, account_id=None, *arguments, **named):
            of, session = kind(access_key_id)
            if of == "FederatedUser" and session.get("PrincipalName"):
                user = iam._users.get_scoped(session.get("AccountId"), None, session["PrincipalName"])
                if not user or user["UserId"] != session.get("FirebreakUserId"):
                    return iam_evaluator._unknown_access_key()
            return original(access_key_id, account_id, *arguments, **named)

        return resolve

    replace(iam_evaluator, "_session_policy_limits", within_nothing)
    replace(iam_evaluator, "enforce", no_further)
    replace(sts, "register_session", of_the_user)
    replace(iam_evaluator, "resolve_credential", while_it_is_that_user)
