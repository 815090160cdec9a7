"""IAM's policy simulator for principals, as AWS has it: the boundary counts, a path is no part of a name, the call is
authorised on the principal that it is about.

Without: a role or user with a path has no policies, so that everything is `implicitDeny`; a permissions boundary is
passed over, in what it denies as in what it does not allow; a principal that is not there is `implicitDeny` too, where
AWS knows no such entity; and the call is asked for `*`. Context keys of the request are not read: the functions send none.
"""


def install(replace, refuse, iam, iam_actions, evaluator, get_account_id, get_region):
    def about_the_principal(original):
        def extract_resource_arn(service, method, path, headers, body, query_params, *rest):
            if service == "iam" and iam_actions._query_param(query_params, "Action") == "SimulatePrincipalPolicy":
                return iam_actions._query_param(query_params, "PolicySourceArn") or "*"
            return original(service, method, path, headers, body, query_params, *rest)

        return extract_resource_arn

    replace(iam_actions, "extract_resource_arn", about_the_principal)
    handlers = next(
        (value for value in vars(iam).values() if isinstance(value, dict) and "SimulatePrincipalPolicy" in value), None
    )
    if handlers is None:
        refuse("the handler of SimulatePrincipalPolicy is gone")

    def simulate_principal_policy(params):
        arn = iam._p(params, "PolicySourceArn")
        account = get_account_id()
        kind, _, rest = (arn or "").split(":", 5)[-1].partition("/")
        name = rest.rsplit("/", 1)[-1]
        store = {"role": iam._roles, "user": iam._users}.get(kind)
        record = store.get_scoped(account, None, name) if store is not None else None
        if not record or record["Arn"] != arn:
            return iam._error(404, "NoSuchEntity", f"No such entity: {arn}", ns="iam")
        gather = evaluator._gather_role_policies if kind == "role" else evaluator._gather_user_policies
        policies = gather(name, account)
        limits = evaluator._permissions_boundary(store, name, account)
        actions, resource = iam._extract_simulate_params(params)
        members = ""
        for action in actions:
            context = evaluator.EvalContext(
                principal_arn=arn,
                principal_type="AssumedRole" if kind == "role" else "User",
                principal_account=account,
                action=action,
                resource_arn=resource,
                region=get_region(),
            )
            decision = {"Allow": "allowed", "Deny": "explicitDeny"}.get(
                evaluator.evaluate(context, policies, *limits).decision, "implicitDeny"
            )
            members += (
                f"<member><EvalActionName>{action}</EvalActionName><EvalResourceName>{resource}</EvalResourceName>"
                f"<EvalDecision>{decision}</EvalDecision><MatchedStatements/><MissingContextValues/></member>"
            )
        return iam._xml(
            200,
            "SimulatePrincipalPolicyResponse",
            f"<SimulatePrincipalPolicyResult><EvaluationResults>{members}</EvaluationResults>"
            "<IsTruncated>false</IsTruncated></SimulatePrincipalPolicyResult>",
            ns="iam",
        )

    handlers["SimulatePrincipalPolicy"] = simulate_principal_policy
