"""Starts the emulator with the corrections that make it hold the functions to their real permissions.

Each correction makes the emulator stricter or more like AWS, never more lenient towards a function, and is named
here with what the emulator does without it. A correction whose place in the emulator has changed stops the start.
"""

import contextvars
import datetime
import importlib.metadata
import json
import os
import sys

VERSION = "1.5.33"

# What the starter does not say. The loopback only; policies enforced; functions call back here.
DEFAULTS = {
    "BIND_HOST": "127.0.0.1",
    "GATEWAY_PORT": "4566",
    "IOT_MTLS_ENABLED": "0",
    "AUTH": "true",
    "CLOUDTRAIL_RECORDING": "1",
    # AWS keeps 90 days; the emulator would keep 10,000 calls, which a fight of a minute makes.
    "CLOUDTRAIL_MAX_EVENTS": "1000000",
}
for name, value in DEFAULTS.items():
    os.environ.setdefault(name, value)
os.environ.setdefault("AWS_ENDPOINT_URL", f"http://127.0.0.1:{os.environ['GATEWAY_PORT']}")


def refuse(reason):
    sys.exit(f"emulator: {reason}; emulator/launch.py is written for ministack {VERSION}")


if importlib.metadata.version("ministack") != VERSION:
    refuse(f"found ministack {importlib.metadata.version('ministack')}")

import accounts  # noqa: E402
import botocore.session  # noqa: E402
import concurrency  # noqa: E402
import conditions  # noqa: E402
import deliveries  # noqa: E402
import doors  # noqa: E402
import encryption  # noqa: E402
import federation  # noqa: E402
import iam_policies  # noqa: E402
import identity  # noqa: E402
import groups  # noqa: E402
import insights  # noqa: E402
import keys  # noqa: E402
import last_used  # noqa: E402
import logs  # noqa: E402
import lookups  # noqa: E402
import organisation  # noqa: E402
import packages  # noqa: E402
import propagation  # noqa: E402
import rules  # noqa: E402
import services  # noqa: E402
import simulation  # noqa: E402
import tables  # noqa: E402
import trail  # noqa: E402
import versions  # noqa: E402
from ministack import app as gateway  # noqa: E402
from ministack.core import iam_actions, iam_evaluator, lambda_runtime, responses  # noqa: E402
from ministack.core.responses import get_account_id, get_region  # noqa: E402
from ministack.services import cloudtrail, cloudwatch_logs, dynamodb, ecs, eventbridge, iam  # noqa: E402
from ministack.services import kms, lambda_svc, s3, sts  # noqa: E402
from ministack.services.cloudformation import changesets, engine, handlers, provisioners, stacks  # noqa: E402


def replace(module, name, make):
    """Replaces `module.name` by `make(original)`."""
    original = getattr(module, name, None)
    if original is None:
        refuse(f"`{module.__name__}.{name}` is gone")
    setattr(module, name, make(original))


# 1. Lambda's action names. Without: UpdateFunctionUrlConfig is asked for as CreateFunctionUrlConfig, the
#    event-invoke configurations and provisioned concurrency as GetFunction or UpdateFunctionCode, and a write to an
#    event source mapping is not asked for at all. The names come from the SDK's own model of the API.
iam_actions._BOTOCORE_SERVICE_MAP["lambda"] = ["lambda"]
LAMBDA_ACTIONS = {
    "Invoke": "InvokeFunction",
    "InvokeAsync": "InvokeFunction",
    "InvokeWithResponseStream": "InvokeFunction",
}


def lambda_actions(original):
    def extract_iam_action(service, method, path, headers, body, query_params=None):
        if service == "lambda":
            name = iam_actions._match_rest_action("lambda", method, path, query_params)
            if name:
                return f"lambda:{LAMBDA_ACTIONS.get(name, name)}"
        return original(service, method, path, headers, body, query_params)

    return extract_iam_action


replace(iam_actions, "extract_iam_action", lambda_actions)

# 2. The ARN of a role, user or instance profile holds its path, and ECS's DescribeTasks is asked for the task. Without:
#    the path is never there, and a statement on `role/firebreak/*` matches nothing; an instance profile has no ARN, and
#    a task that of its cluster. (Several tasks at once are asked for `*`, where AWS asks for each.) The ARN's function,
#    for a mapping, is kept for `lambda:FunctionArn` below.
MAPPED_FUNCTION = contextvars.ContextVar("mapped_function", default=None)


def task_arn(body):
    request = as_json(body)
    cluster = str(request.get("cluster") or "default").rsplit("/", 1)[-1]
    tasks = request.get("tasks")
    if not isinstance(tasks, list) or len(tasks) != 1:
        return "*"
    task = str(tasks[0])
    return task if task.startswith("arn:") else f"arn:aws:ecs:{get_region()}:{get_account_id()}:task/{cluster}/{task}"


def resource_arns(original):
    def extract_resource_arn(service, method, path, headers, body, query_params, *rest):
        arn = original(service, method, path, headers, body, query_params, *rest)
        MAPPED_FUNCTION.set(None)
        if service == "ecs" and headers.get("x-amz-target", "").endswith(".DescribeTasks"):
            return task_arn(body)
        if service == "iam" and (name := iam_actions._query_param(query_params, "InstanceProfileName")):
            profile = iam._instance_profiles.get(name)
            return profile["Arn"] if profile else iam.instance_profile_arn(name)
        if service == "iam" and isinstance(arn, str):
            kind, _, name = arn.split(":", 5)[-1].partition("/")
            held = {"role": iam._roles, "user": iam._users}.get(kind)
            record = held.get(name) if held is not None else None
            if record:
                return record["Arn"]
        if service == "lambda" and isinstance(arn, str) and ":event-source-mapping:" in arn:
            mapping = lambda_svc._esms.get(arn.rsplit(":", 1)[-1])
            if mapping:
                MAPPED_FUNCTION.set(mapping["FunctionArn"])
        return arn

    return extract_resource_arn


replace(iam_actions, "extract_resource_arn", resource_arns)

# 3. Condition keys. Without: `iam:PolicyARN`, `lambda:FunctionArn`, `lambda:FunctionUrlAuthType`, `events:source`,
#    `dynamodb:LeadingKeys` (which stays absent in transactions), the S3 key id and the lock's date are never present.


def as_json(body):
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def condition_keys(original):
    def request_tag_context(service, action, body, params):
        context = dict(original(service, action, body, params))
        if service == "iam":
            if policy := iam_actions._query_param(params, "PolicyArn"):
                context["iam:PolicyARN"] = policy
        elif service == "lambda":
            if MAPPED_FUNCTION.get():
                context["lambda:FunctionArn"] = MAPPED_FUNCTION.get()
            if auth := as_json(body).get("AuthType") or as_json(body).get("FunctionUrlAuthType"):
                context["lambda:FunctionUrlAuthType"] = auth
        elif service == "events" and action == "events:PutEvents":
            if sources := [entry.get("Source", "") for entry in as_json(body).get("Entries", [])]:
                context["events:source"] = sources
        elif service == "dynamodb":
            request = as_json(body)
            item = request.get("Item") or request.get("Key")
            table = dynamodb._tables.get(str(request.get("TableName", "")).rsplit("/", 1)[-1])
            if isinstance(item, dict) and table:
                hashes = [key["AttributeName"] for key in table["KeySchema"] if key["KeyType"] == "HASH"]
                values = [next(iter(item[name].values())) for name in hashes if name in item]
                if values:
                    context["dynamodb:LeadingKeys"] = values
        return context

    return request_tag_context


replace(iam_actions, "request_tag_context", condition_keys)

S3_HEADERS = ("x-amz-server-side-encryption-aws-kms-key-id", "x-amz-object-lock-retain-until-date")


def object_keys(original):
    def s3_service_context(action, query_params, path="", headers=None):
        context = dict(original(action, query_params, path, headers))
        if action == "s3:PutObject":
            for header in S3_HEADERS:
                if value := (headers or {}).get(header):
                    name = header.removeprefix("x-amz-") if "object-lock" in header else header
                    context[f"s3:{name}"] = value
        return context

    return s3_service_context


replace(iam_actions, "s3_service_context", object_keys)

# 4. Transport. The emulator speaks HTTP on the loopback where AWS speaks TLS, so that policies that refuse plain HTTP
#    would refuse everyone. A request counts as TLS unless it says `x-forwarded-proto: http`: that is how a test shows
#    that plain HTTP is refused.


def over_tls(original):
    async def app(scope, receive, send):
        if scope.get("type") == "http":
            headers = list(scope.get("headers") or [])
            if not any(name.lower() == b"x-forwarded-proto" for name, _ in headers):
                scope = {**scope, "headers": [*headers, (b"x-forwarded-proto", b"https")]}
        await original(scope, receive, send)

    return app


replace(gateway, "app", over_tls)

# 5. Conditions of a template. Without: a pseudo parameter in a condition is compared as its own name, so that the home
#    Region is never recognised.


def pseudo_parameters(original):
    def evaluate(template, params):
        pseudo = {"AWS::Region": get_region(), "AWS::AccountId": get_account_id(), "AWS::Partition": "aws"}
        return original(template, {**{name: {"Value": value} for name, value in pseudo.items()}, **params})

    return evaluate


for module in (engine, changesets, handlers, stacks):
    replace(module, "_evaluate_conditions", pseudo_parameters)

# 6. Properties that a stack sets. Without: a bucket's object lock and encryption and a table's point-in-time recovery
#    are dropped when they come from a template.


def with_lock_and_encryption(original):
    def create(logical_id, props, stack_name):
        name, attributes = original(logical_id, props, stack_name)
        if props.get("ObjectLockEnabled"):
            rule = props.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention")
            retention = {"Mode": rule["Mode"], "Days": int(rule["Days"])} if rule else None
            s3._bucket_object_lock[name] = {"enabled": True, "default_retention": retention}
        for rule in props.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", []):
            default = rule["ServerSideEncryptionByDefault"]
            s3._bucket_encryption[name] = (
                f'<ServerSideEncryptionConfiguration xmlns="{s3.S3_NS}"><Rule><ApplyServerSideEncryptionByDefault>'
                f"<SSEAlgorithm>{default['SSEAlgorithm']}</SSEAlgorithm>"
                f"<KMSMasterKeyID>{default.get('KMSMasterKeyID', '')}</KMSMasterKeyID>"
                "</ApplyServerSideEncryptionByDefault>"
                f"<BucketKeyEnabled>{str(rule.get('BucketKeyEnabled', False)).lower()}</BucketKeyEnabled></Rule>"
                "</ServerSideEncryptionConfiguration>"
            )
        return name, attributes

    return create


def with_recovery(original):
    def create(logical_id, props, stack_name):
        name, attributes = original(logical_id, props, stack_name)
        recovery = props.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled")
        dynamodb._pitr_settings[name] = str(recovery).lower() == "true"
        return name, attributes

    return create


for resource, make in (("AWS::S3::Bucket", with_lock_and_encryption), ("AWS::DynamoDB::Table", with_recovery)):
    entry = provisioners._RESOURCE_HANDLERS.get(resource)
    if not entry or "create" not in entry:
        refuse(f"the handler of {resource} is gone")
    entry["create"] = make(entry["create"])

# 7. UpdateFunctionEventInvokeConfig. Without: the call is not known, and answers that the function is not found.


def updates_of_invoke_configs(original):
    async def handle_request(method, path, headers, body, query_params):
        if method == "POST" and path.endswith("/event-invoke-config"):
            status, answer_headers, current = await original("GET", path, headers, b"", query_params)
            if status >= 400:
                return status, answer_headers, current
            method, body = "PUT", json.dumps({**as_json(current), **as_json(body)}).encode()
        return await original(method, path, headers, body, query_params)

    return handle_request


replace(lambda_svc, "handle_request", updates_of_invoke_configs)

# 8. Every accepted UpdateFunctionConfiguration replaces the warm environments of $LATEST. Without: one that changes
#    the description alone leaves them as they are, with credentials from before.


def updates_that_recycle(original):
    def update_config(name, data):
        status, headers, body = original(name, data)
        if status < 300:
            lambda_svc.invalidate_worker(name, qualifier="$LATEST", account=get_account_id(), region=get_region())
        return status, headers, body

    return update_config


replace(lambda_svc, "_update_config", updates_that_recycle)

# 9. ECS tasks are on record only. Without: RunTask pulls the image and starts it wherever there is a Docker.
replace(ecs, "_get_docker", lambda _: lambda: None)

# 10. GuardDuty, as much as it takes to read a finding again. Without: the service is not known, and any call of it is
#     refused as such. CreateSampleFindings keeps each of its `findingTypes`, which here is the JSON of a finding, and
#     GetFindings gives back what was kept for the detector, with times as numbers where the SDK's model of the API has
#     them so (in an event they are text). Every call is authorised by its own action, like those of any service.
FINDINGS = {}


def as_answered(value, shape):
    if shape.type_name == "structure" and isinstance(value, dict):
        members = {member.serialization.get("name", name): member for name, member in shape.members.items()}
        return {name: as_answered(one, members[name]) if name in members else one for name, one in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [as_answered(one, shape.member) for one in value]
    if shape.type_name == "timestamp" and isinstance(value, str):
        return datetime.datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    return value


def rest_json(status, value):
    headers = {"Content-Type": "application/json"}
    if status >= 400:
        headers["x-amzn-errortype"] = value["__type"]
    return status, headers, json.dumps(value).encode()


async def guardduty(method, path, headers, body, query_params):
    action = iam_actions._match_rest_action("guardduty", method, path, query_params)
    if action not in ("CreateSampleFindings", "GetFindings"):
        return rest_json(501, {"__type": "NotImplementedException", "message": f"{action}: {path}"})
    detector = (get_account_id(), get_region(), path.split("/")[2])
    request = as_json(body)
    if action == "CreateSampleFindings":
        kept = FINDINGS.setdefault(detector, {})
        for text in request.get("findingTypes", []):
            finding = as_json(text)
            kept[finding["id"]] = finding
        return rest_json(200, {})
    if detector not in FINDINGS:
        message = "The request is rejected because the input detectorId is not owned by the current account."
        return rest_json(400, {"__type": "BadRequestException", "message": message})
    kept = FINDINGS[detector]
    answer = {"findings": [kept[name] for name in request.get("findingIds", []) if name in kept]}
    model = botocore.session.get_session().get_service_model("guardduty").operation_model(action)
    return rest_json(200, as_answered(answer, model.output_shape))


if "guardduty" in gateway.SERVICE_HANDLERS:
    refuse("GuardDuty is there now")
iam_actions.SERVICE_TO_IAM_NAMESPACE["guardduty"] = "guardduty"
iam_actions._BOTOCORE_SERVICE_MAP["guardduty"] = ["guardduty"]
gateway.SERVICE_HANDLERS["guardduty"] = guardduty

# 11. Managed policies: quotas, policies that are not there, AWSDenyAll, `iam:PermissionsBoundary`. See that file.
iam_policies.correct(replace, refuse)

# 12. Whose a session is (`identity.py`), and what a game day sets while it plays (`conditions.py`): the delay of IAM's
#     changes (`propagation.py`), the organisation's policy (`organisation.py`), CloudTrail's events (`trail.py`). The
#     last one is round all others.
identity.install(replace, iam_evaluator, lambda_runtime, lambda_svc)
organisation.install(replace, iam_actions, iam_evaluator, get_account_id)
propagation.install(replace, refuse, gateway, iam_evaluator, iam, sts, responses.AccountScopedDict)
trail.install(replace, gateway, iam_actions, iam_evaluator, responses)
conditions.install(replace, gateway)

# 12. IAM's policy simulator (`simulation.py`), and what a call on a rule is authorised on (`rules.py`).
rules.install(replace, iam_actions, get_account_id, get_region)
simulation.install(replace, refuse, iam, iam_actions, iam_evaluator, get_account_id, get_region)

# 13. LookupEvents gives pages, and takes one attribute (`lookups.py`).
lookups.install(replace, cloudtrail)

# 14. A table's own policy (`tables.py`).
tables.install(replace, refuse, iam_actions, iam_evaluator, dynamodb, provisioners, get_account_id)

# 15. A function's reserved concurrency (`concurrency.py`).
concurrency.install(refuse, lambda_svc, provisioners)

# 16. A resource policy and a URL for each version and alias (`doors.py`).
doors.install(replace, lambda_svc)

# 17. What the sessions of a user's key may do (`federation.py`).
federation.install(replace, iam_evaluator, sts, iam)

# 18. Published versions, aliases and provisioned concurrency (`versions.py`).
versions.install(replace, lambda_svc, lambda_runtime)

# 19. The aliases of the key that a call is about (`keys.py`).
keys.install(replace, iam_actions, kms)

# 20. FilterLogEvents gives pages (`logs.py`).
logs.install(replace, cloudwatch_logs, responses.error_response_json)

# 21. The packages of functions and layers (`packages.py`).
packages.install(replace, lambda_svc, iam_actions)

# 22. What IAM looks up about the use of a principal is asked for by its ARN (`last_used.py`).
last_used.install(replace, iam, iam_actions)

# 23. Buckets and keys of other accounts, and who is in an organisation (`accounts.py`).
accounts.install(replace, iam_evaluator, responses, s3, kms)

# 24. The keys of objects (`encryption.py`).
encryption.install(replace, iam_actions, iam_evaluator, responses, s3, kms)

# 25. What EventBridge hands to a function is tried again where it fails (`deliveries.py`).
deliveries.install(replace, eventbridge, lambda_svc)

# 26. Who is no service of AWS (`services.py`).
services.install(replace, iam_evaluator)

# 27. Log groups of the class Infrequent Access, and Logs Insights (`insights.py`).
insights.install(replace, cloudwatch_logs, iam_actions, responses.error_response_json)

# 28. Log groups by their names, and what they keep no longer (`groups.py`).
groups.install(replace, cloudwatch_logs, responses.error_response_json)

if __name__ == "__main__":
    gateway.main()
