"""The organisation's templates before cfn-lint, and its policies before AWS's own action tables (policy_sentry).

Every pattern of actions names some that exist, and every condition key of a service applies to each of them: a key that
an action does not carry would deny nothing, or everything.
"""

import fnmatch
import json
import os
import subprocess
import sys
from pathlib import Path

from policy_sentry.querying.actions import get_action_data
from policy_sentry.shared.iam_data import get_service_prefix_data

import report

FOLDER = Path("org")
BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
POLICIES = ("containment.json", "identities.json")
# A policy's size where the limit was not raised, of which names may take what is left.
LIMIT = 5120

# What could make a credential or a way in, by its name; and what of that was weighed and does not: it changes what is
# there, gives rights and no credential, or belongs to the management account. What AWS adds is in neither, and found.
MAKING = """iam:Accept* iam:Add* iam:Associate* iam:Create* iam:Enable* iam:Reset* iam:Send* iam:Update* iam:Upload*
    sts:AssumeRole sts:GetFederationToken rolesanywhere:Create* rolesanywhere:Update* ssm:CreateActivation""".split()
WEIGHED = {
    "iam": """AddRoleToInstanceProfile AddUserToGroup AssociateDelegationRequest CreateAccountAlias
        CreateDelegationRequest CreateGroup CreateInstanceProfile CreatePolicy CreatePolicyVersion CreateServiceLinkedRole
        CreateVirtualMFADevice EnableMFADevice EnableOrganizationsRootCredentialsManagement EnableOrganizationsRootSessions
        EnableOutboundWebIdentityFederation UpdateAccessKey UpdateAccountEmailAddress UpdateAccountName
        UpdateAccountPasswordPolicy UpdateCloudFrontPublicKey UpdateGroup UpdateRole UpdateRoleDescription
        UpdateSSHPublicKey UpdateServerCertificate UpdateServiceSpecificCredential UpdateSigningCertificate UpdateUser
        UploadCloudFrontPublicKey UploadServerCertificate""",
    "rolesanywhere": "CreateProfile UpdateCrl UpdateProfile",
}


def several(value):
    return value if isinstance(value, list) else [value]


def cfn_lint(template):
    command = [BIN / "cfn-lint", "--format", "json", "--regions", "us-east-1", "--", template]
    answer = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    try:
        found = json.loads(answer.stdout or "[]")
    except ValueError:
        return [answer.stdout + answer.stderr]
    problems = [f"{one['Rule']['Id']}: {one['Message']}" for one in found]
    return problems or ([answer.stderr.strip()] if answer.returncode else [])


def expanded(pattern):
    """The actions that a pattern names, as AWS's tables have them."""
    service, _, name = pattern.partition(":")
    known = get_service_prefix_data(service).get("privileges", {})
    return [f"{service}:{one}" for one in known if fnmatch.fnmatchcase(one.lower(), name.lower())]


def keys_of(action):
    service, _, name = action.partition(":")
    return {key.lower() for row in get_action_data(service, name)[service] for key in row["condition_keys"]}


def check(statement):
    problems = []
    patterns = several(statement.get("Action", statement.get("NotAction")))
    for pattern in patterns:
        if not expanded(pattern):
            problems.append(f"`{pattern}` names no action")
    keys = [key for block in statement["Condition"].values() for key in block if not key.startswith("aws:")]
    for action in (action for pattern in patterns for action in expanded(pattern) if "Action" in statement):
        problems += [f"`{key}` does not apply to `{action}`" for key in keys if key.lower() not in keys_of(action)]
    return problems


def not_weighed(statements):
    """What makes a credential by its name, in AWS's tables, and is neither denied nor left on purpose."""
    patterns = [pattern for one in statements for pattern in several(one.get("Action", []))]
    denied = {action for pattern in patterns for action in expanded(pattern)}
    left = {f"{service}:{name}" for service, names in WEIGHED.items() for name in names.split()}
    known = {action for pattern in MAKING for action in expanded(pattern)}
    problems = [f"`{action}` is neither denied nor weighed" for action in sorted(known - denied - left)]
    problems += [f"`{action}` was weighed, and is denied" for action in sorted(left & denied)]
    return problems + [f"`{action}` was weighed, and is none" for action in sorted(left - known)]


for template in sorted(FOLDER.glob("*.yaml")):
    report.item(f"cfn-lint, {template}", cfn_lint(template))
for policy in POLICIES:
    document = json.loads((FOLDER / policy).read_text())
    for statement in document["Statement"]:
        report.item(f"org/{policy} {statement['Sid']}", check(statement))
    length = len(json.dumps(document, separators=(",", ":")))
    problems = [] if length <= LIMIT - 256 else [f"{LIMIT} less 256 for names"]
    report.item(f"org/{policy} has {length} characters", problems)
statements = json.loads((FOLDER / "identities.json").read_text())["Statement"]
report.item("org/identities.json: what makes a credential is denied, or left on purpose", not_weighed(statements))
report.finish()
