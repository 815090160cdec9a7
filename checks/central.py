"""Who may write and read the central evidence bucket, by its own policy and that of its key.

Evaluated as AWS does for a caller of another account, whom its own account allows everything: what the bucket's policy
does not allow is denied, and a deny holds against anybody, the bucket's own account included.
"""

import fnmatch
import re
from pathlib import Path

import yaml

import report
from template import Template

ORGANISATION, HERE, MEMBER = "o-example1234", "999900001111", "111122223333"
BUCKET, KEY = "arn:aws:s3:::central", f"arn:aws:kms:us-east-1:{HERE}:key/k"
NAMES = {"AWS::Partition": "aws", "AWS::AccountId": HERE, "AWS::Region": "us-east-1", "StackName": "firebreak"}
NAMES |= {"Bucket.Arn": BUCKET, "Key.Arn": KEY, "OrganizationId": ORGANISATION, "Bucket": "central"}
RESOURCES = yaml.load(Path("org/evidence-bucket.yaml").read_text(), Loader=Template)["Resources"]


def resolved(value):
    if isinstance(value, dict):
        return {key: resolved(member) for key, member in value.items()}
    if isinstance(value, list):
        return [resolved(member) for member in value]
    if not isinstance(value, tuple):
        return value
    if value[0] in ("Ref", "GetAtt"):
        return NAMES[value[1]]
    text = re.sub(r"\$\{([^!}]+)\}", lambda found: NAMES[found[1]], value[1])
    return text.replace("${!", "${")


def several(value):
    return value if isinstance(value, list) else [value]


def like(pattern, text):
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def arn_like(pattern, arn):
    parts = pattern.split(":", 5), arn.split(":", 5)
    return all(like(one, part) for one, part in zip(*parts, strict=True))


OPERATORS = {
    "StringEquals": (lambda wanted, found: wanted == found, False),
    "StringNotEquals": (lambda wanted, found: wanted == found, True),
    "ArnLike": (arn_like, False),
    "ArnNotLike": (arn_like, True),
    "Bool": (lambda wanted, found: wanted == found, False),
}


def holds(condition, keys):
    for operator, block in condition.items():
        for key, values in block.items():
            found = keys.get(key)
            if operator == "Null":
                if (found is None) != (values == "true"):
                    return False
                continue
            compare, negated = OPERATORS[operator]
            # Without the key a negated operator holds, and any other does not.
            matched = found is not None and any(compare(value, found) for value in several(values))
            if matched == negated:
                return False
    return True


def applies(statement, action, resource, keys):
    named = "Action" in statement
    listed = any(like(pattern, action) for pattern in several(statement.get("Action", statement.get("NotAction"))))
    if listed != named or not holds(statement.get("Condition", {}), keys):
        return False
    patterns = [one.replace("${aws:PrincipalAccount}", keys["aws:PrincipalAccount"]) for one in several(statement["Resource"])]
    principal = statement["Principal"]
    whom = principal == "*" or keys["aws:PrincipalAccount"] in principal["AWS"]
    return whom and any(pattern == "*" or like(pattern, resource) for pattern in patterns)


def allowed(policy, action, resource, keys):
    """Whether a caller may, whom IAM allows it. In its own account IAM's word is enough; elsewhere the policy's is needed too."""
    effects = [one["Effect"] for one in policy["Statement"] if applies(one, action, resource, keys)]
    return "Deny" not in effects and ("Allow" in effects or keys["aws:PrincipalAccount"] == HERE)


def caller(account, role, organisation=ORGANISATION, **more):
    keys = {"aws:PrincipalAccount": account, "aws:PrincipalArn": f"arn:aws:iam::{account}:role/{role}"}
    keys |= {"aws:PrincipalOrgID": organisation} if organisation else {}
    return keys | {"aws:SecureTransport": "true"} | more


COLLECTOR = "firebreak/firebreak-snapshot-logs"
OBJECT = f"{BUCKET}/incidents/{MEMBER}/fb-0/000001/000001/logs/x"
# An object is made where none is; beginning an upload and its parts make none yet.
NEW = {"s3:ObjectCreationOperation": "true", "s3:if-none-match": "*"}
OVER, PART = {"s3:ObjectCreationOperation": "true"}, {"s3:ObjectCreationOperation": "false"}
UNDER_KEY = {"s3:x-amz-server-side-encryption": "aws:kms", "s3:x-amz-server-side-encryption-aws-kms-key-id": KEY}
ENCRYPTED = UNDER_KEY | NEW
OTHER_KEY = ENCRYPTED | {"s3:x-amz-server-side-encryption-aws-kms-key-id": KEY + "2"}
PLAIN = NEW | {"s3:x-amz-server-side-encryption": "AES256"}
PLAIN_HTTP = ENCRYPTED | {"aws:SecureTransport": "false"}
SHORTER = ENCRYPTED | {"s3:object-lock-retain-until-date": "2026-11-21T00:00:00Z"}
bucket = resolved(RESOURCES["BucketPolicy"]["Properties"]["PolicyDocument"])
key = resolved(RESOURCES["Key"]["Properties"]["KeyPolicy"])
WRITES = [
    ("a member's collector writes", OBJECT, caller(MEMBER, COLLECTOR, **ENCRYPTED), True),
    ("an upload begins", OBJECT, caller(MEMBER, COLLECTOR, **UNDER_KEY, **PART), True),
    ("a part of an upload says nothing of keys", OBJECT, caller(MEMBER, COLLECTOR, **PART), True),
    ("an upload ends", OBJECT, caller(MEMBER, COLLECTOR, **NEW), True),
    ("an upload ends in the place of something", OBJECT, caller(MEMBER, COLLECTOR, **OVER), False),
    ("in the place of something", OBJECT, caller(MEMBER, COLLECTOR, **UNDER_KEY, **OVER), False),
    ("under another account's number", OBJECT, caller("444455556666", COLLECTOR, **ENCRYPTED), False),
    ("outside of the incidents", f"{BUCKET}/x", caller(MEMBER, COLLECTOR, **ENCRYPTED), False),
    ("another role of the member", OBJECT, caller(MEMBER, "Administrator", **ENCRYPTED), False),
    ("a role of that name without the path", OBJECT, caller(MEMBER, "firebreak-snapshot-logs", **ENCRYPTED), False),
    ("of another organisation", OBJECT, caller(MEMBER, COLLECTOR, "o-another1234", **ENCRYPTED), False),
    ("of no organisation", OBJECT, caller(MEMBER, COLLECTOR, None, **ENCRYPTED), False),
    ("an administrator of the bucket's account", OBJECT, caller(HERE, "Administrator", **ENCRYPTED), False),
    ("with another key", OBJECT, caller(MEMBER, COLLECTOR, **OTHER_KEY), False),
    ("without the key", OBJECT, caller(MEMBER, COLLECTOR, **PLAIN), False),
    ("over plain HTTP", OBJECT, caller(MEMBER, COLLECTOR, **PLAIN_HTTP), False),
    ("with a lock of its own", OBJECT, caller(MEMBER, COLLECTOR, **SHORTER), False),
]
for name, resource, keys, may in WRITES:
    problem = [] if allowed(bucket, "s3:PutObject", resource, keys) == may else [f"it may{' not' if may else ''}"]
    report.item(f"central bucket, writing: {name}", problem)
OTHERS = ["GetObject", "GetObjectVersion", "ListBucket", "DeleteObject", "DeleteObjectVersion", "PutObjectRetention"]
OTHERS += ["PutBucketPolicy", "BypassGovernanceRetention", "PutBucketObjectLockConfiguration", "AbortMultipartUpload"]
# Also when somebody opens the bucket to everyone.
OPEN = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}
opened = {"Statement": [*bucket["Statement"], OPEN]}
for name in OTHERS:
    on = BUCKET if "Bucket" in name else OBJECT
    for role in (COLLECTOR, "Administrator"):
        may = [allowed(policy, f"s3:{name}", on, caller(MEMBER, role)) for policy in (bucket, opened)]
        problem = ["it may"] if any(may) else []
        report.item(f"central bucket, a member's {role}: {name}", problem)
reader = caller(HERE, "Investigator")
report.item("central bucket, its own account reads", [] if allowed(bucket, "s3:GetObject", OBJECT, reader) else ["it may not"])

BY_S3 = {"kms:ViaService": "s3.us-east-1.amazonaws.com"}
KEYS = [
    ("a collector, by S3", "GenerateDataKey", caller(MEMBER, COLLECTOR, **BY_S3), True),
    ("a collector, by S3", "Decrypt", caller(MEMBER, COLLECTOR, **BY_S3), True),
    ("a collector, by itself", "Decrypt", caller(MEMBER, COLLECTOR), False),
    ("another role", "Decrypt", caller(MEMBER, "Administrator", **BY_S3), False),
    ("of another organisation", "GenerateDataKey", caller(MEMBER, COLLECTOR, "o-another1234", **BY_S3), False),
    ("a collector", "ScheduleKeyDeletion", caller(MEMBER, COLLECTOR, **BY_S3), False),
    ("a collector", "PutKeyPolicy", caller(MEMBER, COLLECTOR, **BY_S3), False),
]
for name, action, keys, may in KEYS:
    problem = [] if allowed(key, f"kms:{action}", KEY, keys) == may else [f"it may{' not' if may else ''}"]
    report.item(f"central key, {name}: {action}", problem)
report.finish()
