"""CloudTrail's records of the services below, and the events that EventBridge makes of them.

The shape is that of CloudTrail: the caller with the issuer of its session, the request's parameters with a small
first letter, what the answer tells, the error's code. Lambda's events carry dates in their names. As on AWS, data
events (invocations, messages, items, objects, published events) are not recorded, and refused calls are. Without: the
record of a call of IAM is named `POST.iam`, its caller is a user named like the access key, and a call that was
refused is not recorded.

Each recorded call becomes an event on the default bus after a set delay. As on AWS those that begin with Get, List or
Describe do not (but for STS's two), and nothing arrives while the account has trails and none of them is logging.
Unlike on AWS, an account without any trail has events, `LookupEvents` shows a call as soon as its
event is due, and the other services
are recorded as the emulator records them, without events. Without: there are no events.
"""

import asyncio
import datetime
import functools
import json
import re
import uuid
from xml.etree import ElementTree

import botocore.session
import conditions

SESSION = botocore.session.get_session()

# What belongs to each service's data events, or is too frequent to be more than a load here.
NO_MANAGEMENT = {
    "iam": (),
    "sts": (),
    "cloudformation": (),
    "cloudtrail": (),
    "sns": ("Publish", "PublishBatch"),
    "events": ("PutEvents", "PutPartnerEvents", "TestEventPattern"),
    "sqs": (
        "SendMessage",
        "SendMessageBatch",
        "ReceiveMessage",
        "DeleteMessage",
        "DeleteMessageBatch",
        "ChangeMessageVisibility",
        "ChangeMessageVisibilityBatch",
    ),
    "dynamodb": (
        "PutItem",
        "UpdateItem",
        "DeleteItem",
        "Query",
        "Scan",
        "BatchGetItem",
        "BatchWriteItem",
        "TransactGetItems",
        "TransactWriteItems",
        "ExecuteStatement",
        "ExecuteTransaction",
        "BatchExecuteStatement",
    ),
    "kms": (
        "Encrypt",
        "Decrypt",
        "ReEncrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateMac",
        "VerifyMac",
        "GenerateRandom",
        "Sign",
        "Verify",
    ),
    "lambda": ("Invoke", "InvokeAsync", "InvokeWithResponseStream"),
}
READS = ("Get", "List", "Describe")
READS_WITH_EVENTS = ("GetFederationToken", "GetSessionToken")

# https://docs.aws.amazon.com/lambda/latest/dg/logging-using-cloudtrail.html
DATED = {
    "AddLayerVersionPermission": "20181031",
    "AddPermission": "20150331v2",
    "CreateAlias": "20150331",
    "CreateEventSourceMapping": "20150331",
    "CreateFunction": "20150331",
    "DeleteAlias": "20150331",
    "DeleteEventSourceMapping": "20150331",
    "DeleteFunction": "20150331",
    "DeleteFunctionConcurrency": "20171031",
    "DeleteLayerVersion": "20181031",
    "PublishLayerVersion": "20181031",
    "PublishVersion": "20150331",
    "PutFunctionConcurrency": "20171031",
    "RemoveLayerVersionPermission": "20181031",
    "RemovePermission": "20150331v2",
    "TagResource": "20170331v2",
    "UntagResource": "20170331v2",
    "UpdateAlias": "20150331",
    "UpdateEventSourceMapping": "20150331",
    "UpdateFunctionCode": "20150331v2",
    "UpdateFunctionConfiguration": "20150331v2",
}

# What CloudTrail leaves out, and names that are a caller's own rather than members.
SECRET = {"secretAccessKey", "password", "zipFile", "environment", "plaintext"}
MAPS = {"tags", "attributes"}


def small(name):
    return name[:1].lower() + name[1:]


def recorded(value):
    """A value of JSON as CloudTrail records it."""
    if isinstance(value, list):
        return [recorded(one) for one in value]
    if not isinstance(value, dict):
        return value
    members = {small(name): one for name, one in value.items()}
    return {
        name: one if name in MAPS and isinstance(one, dict) else recorded(one)
        for name, one in members.items()
        if name not in SECRET
    }


def from_query(params):
    """The parameters of a query-protocol request, lists and structures put together again."""
    tree = {}
    for name, values in params.items():
        if name in ("Action", "Version"):
            continue
        place = tree
        *way, last = name.split(".")
        for part in way:
            place = place.setdefault(part, {}) if isinstance(place.get(part, {}), dict) else {}
        place[last] = values[0] if isinstance(values, list) else values
    return recorded(with_lists(tree))


def with_lists(value):
    if not isinstance(value, dict):
        return value
    if set(value) in ({"member"}, {"entry"}):
        (value,) = value.values()
    if isinstance(value, dict) and value and all(name.isdigit() for name in value):
        return [with_lists(value[name]) for name in sorted(value, key=int)]
    return {name: with_lists(one) for name, one in value.items()} if isinstance(value, dict) else value


def from_xml(element):
    children = list(element)
    if not children:
        return element.text
    names = [child.tag.rsplit("}", 1)[-1] for child in children]
    if set(names) <= {"member", "entry"}:
        return [from_xml(child) for child in children]
    return {name: from_xml(child) for name, child in zip(names, children)}


def as_object(body):
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class Call:
    """A call on its way, and what becomes of it."""

    def __init__(self, service, name, parameters, caller, region, headers, request_id):
        self.service, self.name, self.parameters, self.caller = service, name, parameters, caller
        self.region, self.agent, self.request_id = region, headers.get("user-agent", ""), request_id

    def is_an_event(self):
        return not self.name.startswith(READS) or self.name in READS_WITH_EVENTS

    def username(self):
        """What CloudTrail looks events up by: a session's name where a role was assumed."""
        kind, arn = self.caller["type"], self.caller.get("arn", "")
        return "root" if kind == "Root" else arn.rsplit("/", 1)[-1]

    def resources(self):
        """What CloudTrail looks events of IAM and STS up by, beside the caller."""
        kinds = {
            "roleName": "AWS::IAM::Role",
            "userName": "AWS::IAM::User",
            "policyArn": "AWS::IAM::Policy",
            "accessKeyId": "AWS::IAM::AccessKey",
            "roleArn": "AWS::IAM::Role",
        }
        named = self.parameters if self.service in ("iam", "sts") else {}
        return [{"ResourceName": named[one], "ResourceType": kind} for one, kind in kinds.items() if named.get(one)]

    def outcome(self, status, headers, body):
        """What the answer tells: an error's code and message, or the elements of the response."""
        if status < 400 and not self.is_an_event():
            return {}
        body = body if isinstance(body, bytes) else str(body or "").encode()
        if b"<" in body[:1]:
            try:
                root = ElementTree.fromstring(body)
            except ElementTree.ParseError:
                return {"responseElements": None}
            if status >= 400:
                texts = {element.tag.rsplit("}", 1)[-1]: element.text for element in root.iter()}
                return {"errorCode": texts.get("Code") or "UnknownError", "errorMessage": texts.get("Message") or ""}
            results = [child for child in root if child.tag.endswith("Result")]
            found = from_xml(results[0]) if results else None
            return {"responseElements": recorded(found) if isinstance(found, dict) else None}
        answer = as_object(body)
        if status >= 400:
            kind = headers.get("x-amzn-errortype") or answer.get("__type") or answer.get("Code") or "UnknownError"
            message = answer.get("message") or answer.get("Message") or ""
            return {"errorCode": kind.split(":")[0].rsplit("#", 1)[-1], "errorMessage": message}
        return {"responseElements": recorded(answer) or None}

    def record(self, status, headers, body, at, account):
        return {
            "eventVersion": "1.11",
            "userIdentity": self.caller,
            "eventTime": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "eventSource": f"{self.service}.amazonaws.com",
            "eventName": self.name,
            "awsRegion": self.region,
            "sourceIPAddress": "127.0.0.1",
            "userAgent": self.agent,
            "requestParameters": self.parameters,
            "responseElements": None,
            **self.outcome(status, headers, body),
            "requestID": self.request_id,
            "eventID": str(uuid.uuid4()),
            "readOnly": self.service == "sts" or self.name.startswith(READS),
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": account,
            "eventCategory": "Management",
        }


def identity(credential, role, session, users):
    """`userIdentity`: who calls, by type, and what issued the session."""
    account, key = credential.account_id, credential.access_key_id
    base = {
        "principalId": credential.principal_id,
        "arn": credential.principal_arn,
        "accountId": account,
        "accessKeyId": key,
    }
    began = session.get("IssuedAt") if session else None
    context = {}
    if began:
        created = datetime.datetime.fromtimestamp(began, datetime.timezone.utc)
        dates = {"creationDate": created.strftime("%Y-%m-%dT%H:%M:%SZ"), "mfaAuthenticated": "false"}
        context = {"sessionContext": {"attributes": dates}}
    if credential.principal_type == "Root":
        return {"type": "Root", **base}
    if credential.principal_type == "User":
        return {"type": "IAMUser", **base, "userName": credential.principal_name, **context}
    context.setdefault("sessionContext", {})
    if credential.principal_type == "AssumedRole" and role:
        context["sessionContext"]["sessionIssuer"] = {
            "type": "Role",
            "principalId": role["RoleId"],
            "arn": role["Arn"],
            "accountId": account,
            "userName": role["RoleName"],
        }
    elif credential.principal_type == "FederatedUser" and session:
        user = users.get_scoped(account, None, session.get("PrincipalName", ""))
        if user:
            context["sessionContext"]["sessionIssuer"] = {
                "type": "IAMUser",
                "principalId": user["UserId"],
                "arn": user["Arn"],
                "accountId": account,
                "userName": user["UserName"],
            }
    return {"type": credential.principal_type, **base, **context}


@functools.lru_cache(maxsize=None)
def operation_model(service, name):
    return SESSION.get_service_model(service).operation_model(name)


def install(replace, gateway, iam_actions, iam_evaluator, responses):
    import identity as who
    from ministack.services import cloudtrail, eventbridge, iam, sts

    def caller(headers, query_params):
        key = gateway.extract_access_key_id(headers, query_params) or ""
        credential = iam_evaluator.resolve_credential(key, responses.get_account_id())
        if not isinstance(credential, iam_evaluator.ResolvedCredential):
            return {"type": "Unknown", "accountId": responses.get_account_id(), "accessKeyId": key}
        role = who.role_of(credential) if credential.principal_type == "AssumedRole" else None
        return identity(credential, role, sts._sessions.get(key), iam._users)

    def operation(service, method, path, headers, query_params):
        if service == "lambda":
            return iam_actions._match_rest_action("lambda", method, path, query_params)
        if target := headers.get("x-amz-target", ""):
            return target.rsplit(".", 1)[-1]
        return (query_params.get("Action") or [""])[0]

    def lambda_parameters(name, path, body, query_params):
        """What Lambda's request says in its path, its query and its body."""
        template = operation_model("lambda", name).http["requestUri"].split("?")[0]
        pattern = re.sub(r"\\\{(\w+)\\?\+?\\\}", r"(?P<\1>[^/]+)", re.escape(template))
        match = re.fullmatch(pattern, path.rstrip("/")) or re.fullmatch(pattern, path)
        named = match.groupdict() if match else {}
        in_query = {one: values[0] for one, values in query_params.items() if values}
        return recorded({**in_query, **named, **as_object(body)})

    def parameters(service, name, path, headers, body, query_params):
        if service == "lambda":
            return lambda_parameters(name, path, body, query_params)
        if headers.get("x-amz-target"):
            return recorded(as_object(body))
        return from_query(query_params)

    def is_logged():
        trails = list(cloudtrail._trails.values())
        return not trails or any(trail.get("IsLogging") for trail in trails)

    def begun(method, path, headers, body, query_params, request_id):
        params = gateway._routing_params(method, path, headers, body, query_params)
        service = gateway.detect_service(method, path, headers, params)
        if service not in NO_MANAGEMENT:
            return None
        name = operation(service, method, path, headers, params)
        if not name or name in NO_MANAGEMENT[service]:
            return None
        called = parameters(service, name, path, headers, body, params)
        dated = name + DATED.get(name, "") if service == "lambda" else name
        region = gateway.extract_region(headers, query_params)
        return Call(service, dated, called, caller(headers, query_params), region, headers, request_id)

    def deliver(source, record):
        conditions.COUNTED.events += 1
        entry = {"Source": source, "DetailType": "AWS API Call via CloudTrail", "Detail": json.dumps(record)}
        eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)

    def remember(call, record, resources, now):
        event = {
            "EventId": record["eventID"],
            "EventName": call.name,
            "EventSource": record["eventSource"],
            "EventTime": now.timestamp(),
            "Username": call.username(),
            "AccessKeyId": call.caller.get("accessKeyId", ""),
            "ReadOnly": str(record["readOnly"]).lower(),
            "Resources": resources,
            "CloudTrailEvent": json.dumps(record),
        }
        cloudtrail._get_event_queue().append(event)

    def with_records(original):
        async def dispatch(method, path, headers, body, query_params, request_id):
            call = None if path.startswith("/_") else begun(method, path, headers, body, query_params, request_id)
            if call is None:
                return await original(method, path, headers, body, query_params, request_id)
            logged = is_logged()
            answer = await original(method, path, headers, body, query_params, request_id)
            now = datetime.datetime.now(datetime.timezone.utc)
            record = call.record(*answer, now, responses.get_account_id())
            if cloudtrail._recording_enabled and call.name != "LookupEvents":
                found = call.resources() or gateway._ct_resources(call.service, method, path, body)
                remember(call, record, found, now)
            delay = conditions.SETTINGS.cloudtrail_delay
            if delay is not None and logged and call.is_an_event():
                asyncio.get_running_loop().call_later(delay, deliver, f"aws.{call.service}", record)
            return answer

        return dispatch

    def of_other_services(original):
        def record(service, method, path, headers, body, query_params, request_id, region):
            is_object = service == "s3" and path.strip("/").count("/") > 0
            if service not in NO_MANAGEMENT and not is_object:
                original(service, method, path, headers, body, query_params, request_id, region)

        return record

    replace(gateway, "_dispatch_service_request", with_records)
    replace(gateway, "_maybe_record_cloudtrail", of_other_services)
