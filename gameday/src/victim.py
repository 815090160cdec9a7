"""A function in production: writes each order to its table, with the credentials of its role."""

import datetime
import hashlib
import hmac
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request

# When this execution environment began: its credentials are from then.
STARTED_MS = int(time.time() * 1000)


def signed(endpoint, region, target, body):
    """A DynamoDB request with Signature Version 4."""
    host = urllib.parse.urlsplit(endpoint).netloc
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    headers = {
        "content-type": "application/x-amz-json-1.0",
        "host": host,
        "x-amz-date": stamp,
        "x-amz-security-token": os.environ["AWS_SESSION_TOKEN"],
        "x-amz-target": target,
    }
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    digest = hashlib.sha256(body).hexdigest()
    request = "\n".join(["POST", "/", "", lines, names, digest])
    scope = f"{day}/{region}/dynamodb/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in (day, region, "dynamodb", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    identity = f"{os.environ['AWS_ACCESS_KEY_ID']}/{scope}"
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={identity}, SignedHeaders={names}, Signature={signature}"
    )
    return urllib.request.Request(endpoint, data=body, headers=headers, method="POST")


def lambda_handler(event, context):
    region = os.environ["AWS_REGION"]
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or f"https://dynamodb.{region}.amazonaws.com"
    item = {"id": {"S": f"order-{context.aws_request_id}"}, "body": {"S": json.dumps(event)[:1000]}}
    body = json.dumps({"TableName": os.environ["TABLE"], "Item": item}).encode()
    try:
        with urllib.request.urlopen(signed(endpoint + "/", region, "DynamoDB_20120810.PutItem", body)) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"the order cannot be written: {error.code} {error.read().decode()}") from error
    print("an order was written")
    return {"accepted": True, "environment_started_ms": STARTED_MS}
