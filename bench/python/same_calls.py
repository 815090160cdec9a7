"""What the functions are measured against: makes the calls that it is given, in their order, with boto3.

The calls are those that a Firebreak function made on the same event against the same account. This function decides
nothing, builds no record and checks nothing: whatever a real one would do beside its calls comes on top.
"""

import base64
import os

import boto3
from botocore import xform_name
from botocore.exceptions import ClientError

# Made once, when the environment starts, as AWS recommends.
CLIENTS = {name: boto3.client(name) for name in os.environ["BENCH_SERVICES"].split(",")}


def handler(event, context):
    refused = []
    for call in event["calls"]:
        parameters = call["parameters"]
        if call["service"] == "s3" and "Body" in parameters:
            parameters = {**parameters, "Body": bytes.fromhex(parameters["Body"])}
        if call["operation"] == "Sign":
            parameters = {**parameters, "Message": base64.b64decode(parameters["Message"])}
        method = getattr(CLIENTS[call["service"]], xform_name(call["operation"]))
        try:
            answer = method(**parameters)
        except ClientError as error:
            # Some answers are refusals by their nature: there is no such policy.
            refused.append(f"{call['operation']}: {error.response['Error']['Code']}")
            continue
        for stream in ("Body", "Payload"):
            if stream in answer:
                answer[stream].read()
    return {"calls": len(event["calls"]), "refused": refused}
