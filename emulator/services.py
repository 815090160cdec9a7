"""`aws:PrincipalIsAWSService` of a call that somebody signed is `false`, as it is on AWS for whoever is no service.

Without: the key is never present, so that a policy that keeps everyone but AWS's own services out keeps nobody out. What
the emulator's services do themselves is not authorised at all.
"""


def install(replace, iam_evaluator):
    def never_a_service(original):
        def resolve(key, ctx):
            return "false" if key.lower() == "aws:principalisawsservice" else original(key, ctx)

        return resolve

    replace(iam_evaluator, "_resolve_condition_key", never_a_service)
