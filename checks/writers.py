"""Who may write the ledger, get at the key of its seals and sign manifests, by the policies of the table and of the keys.

Evaluated as AWS does, over a table of callers and calls: whatever IAM allows a caller, a deny of the resource's own
policy holds. The emulator knows no policy of a table. Whom the template's roles make a writer is taken from the roles,
so that a function that writes and is not excepted here, or the other way round, is found.
"""

import re

import report
from template import RESOURCES

ACCOUNT = "111122223333"
PSEUDO = {"AWS::Partition": "aws", "AWS::AccountId": ACCOUNT, "AWS::StackName": "firebreak", "AWS::Region": "eu-west-1"}
DEPLOYERS = "arn:aws:iam::111122223333:role/ci/deployer-*,arn:aws:iam::111122223333:role/cdk-exec"
WRITES = ["BatchWriteItem", "DeleteItem", "PartiQLDelete", "PartiQLInsert", "PartiQLUpdate", "PutItem", "UpdateItem"]


def resolved(value, deployers):
    """A value as AWS gets it; `deployers` is the parameter of the deploying roles."""
    if isinstance(value, dict):
        members = {key: resolved(member, deployers) for key, member in value.items()}
        return {key: member for key, member in members.items() if member is not None}
    if isinstance(value, list):
        return [resolved(member, deployers) for member in value]
    if not isinstance(value, tuple):
        return value
    name, argument = value
    if name == "Sub":
        return re.sub(r"\$\{([^}]+)\}", lambda found: PSEUDO.get(found[1], found[0]), argument)
    if name == "If" and argument[0] == "WithDeployers":
        return resolved(argument[1] if deployers else argument[2], deployers)
    if name == "If":
        return resolved(argument[1], deployers)
    if name == "Split":
        return resolved(argument[1], deployers).split(argument[0])
    if name == "Ref" and argument == "DeployerRolePatterns":
        return deployers
    if name == "Ref" and argument == "AWS::NoValue":
        return None
    return f"{name} {argument}"


def several(value):
    return value if isinstance(value, list) else [value]


def like(pattern, arn):
    """`ArnLike`: part by part, `*` and `?` within a part."""
    parts = pattern.split(":", 5), arn.split(":", 5)
    if len(parts[0]) != len(parts[1]):
        return False
    expression = [re.escape(part).replace(r"\*", ".*").replace(r"\?", ".") for part in parts[0]]
    return all(re.fullmatch(one, part) for one, part in zip(expression, parts[1], strict=True))


def matches(condition, principal):
    """Whether every operator holds. A caller without the key, such as a service, meets every negated one."""
    for operator, block in condition.items():
        if operator not in ("ArnNotEquals", "ArnNotLike"):
            raise ValueError(f"`{operator}` is not expected here")
        for key, values in block.items():
            if key != "aws:PrincipalArn":
                raise ValueError(f"`{key}` is not expected here")
            # AWS compares both in the same way.
            if principal and any(like(value, principal) for value in several(values)):
                return False
    return True


def denied(policy, principal, action):
    for statement in policy["Statement"]:
        if statement["Effect"] == "Deny" and statement["Principal"] == "*" and action in several(statement["Action"]):
            if statement["Resource"] == "*" and matches(statement.get("Condition", {}), principal):
                return True
    return False


def may(resource, actions):
    """The ARNs of the template's roles that IAM allows one of these on that resource."""
    arns = set()
    for role in RESOURCES.values():
        if role["Type"] != "AWS::IAM::Role" or role.get("Condition") == "IsAway":
            continue
        properties = resolved(role["Properties"], "")
        statements = [one for policy in properties["Policies"] for one in policy["PolicyDocument"]["Statement"] if one]
        for statement in statements:
            on = any(str(one).startswith(f"GetAtt {resource}.") for one in several(statement["Resource"]))
            if statement["Effect"] == "Allow" and on and set(several(statement["Action"])) & set(actions):
                arns.add(f"arn:aws:iam::{ACCOUNT}:role{properties['Path']}{properties['RoleName']}")
    return arns


def roles():
    named = (one["Properties"] for one in RESOURCES.values() if one["Type"] == "AWS::IAM::Role")
    named = (resolved(one, "") for one in named)
    return {f"arn:aws:iam::{ACCOUNT}:role{one['Path']}{one['RoleName']}" for one in named if "RoleName" in one}


STRANGERS = [
    f"arn:aws:iam::{ACCOUNT}:root",
    f"arn:aws:iam::{ACCOUNT}:user/admin",
    f"arn:aws:iam::{ACCOUNT}:role/Administrator",
    f"arn:aws:iam::{ACCOUNT}:role/firebreak-quarantine-principal",
    f"arn:aws:iam::{ACCOUNT}:role/firebreak/firebreak-quarantine-principal-2",
    f"arn:aws:iam::{ACCOUNT}:role/firebreak/x/firebreak-quarantine-principal",
    "arn:aws:iam::444455556666:role/firebreak/firebreak-quarantine-principal",
    "arn:aws:iam::444455556666:role/ci/deployer-1",
    f"arn:aws:iam::{ACCOUNT}:role/ci/other",
    None,
]
DEPLOYING = [f"arn:aws:iam::{ACCOUNT}:role/ci/deployer-1", f"arn:aws:iam::{ACCOUNT}:role/cdk-exec"]


def check(name, policy, actions, writers, reads, deployers):
    policy = resolved(policy, deployers)
    excepted = set(writers) | (set(DEPLOYING) if deployers and name == "Ledger" else set())
    for caller in sorted(roles() | set(DEPLOYING) | {one for one in STRANGERS if one}) + [None]:
        problems = []
        for action in actions:
            wanted = caller not in excepted
            if denied(policy, caller, action) != wanted:
                problems.append(f"`{action}` is {'not ' if wanted else ''}denied")
        problems += [f"`{action}` is denied" for action in reads if denied(policy, caller, action)]
        report.item(f"{name}, {'with' if deployers else 'without'} deployers: {caller or 'a service'}", problems)


ledger = RESOURCES["Ledger"]["Properties"]["ResourcePolicy"]["PolicyDocument"]
writes = [f"dynamodb:{one}" for one in WRITES]
key = RESOURCES["SealKey"]["Properties"]["KeyPolicy"]
signing = RESOURCES["EvidenceSigningKey"]["Properties"]["KeyPolicy"]
for deployers in ("", DEPLOYERS):
    check("Ledger", ledger, writes, may("Ledger", writes), ["dynamodb:GetItem", "dynamodb:Query"], deployers)
    macs = ["kms:GenerateMac", "kms:VerifyMac"]
    check("SealKey", key, macs, may("SealKey", macs), ["kms:DescribeKey", "kms:PutKeyPolicy"], deployers)
    signs = ["kms:Sign"]
    signers = may("EvidenceSigningKey", signs)
    check("EvidenceSigningKey", signing, signs, signers, ["kms:GetPublicKey", "kms:Verify"], deployers)
report.finish()
