"""What the evidence function's sink is measured against: the same lines, compressed, hashed on both sides, and uploaded
in parts, with Python's standard library and boto3."""

import base64
import hashlib
import json
import resource
import sys
import time
import zlib

import boto3
from botocore.config import Config

PART = 8 << 20
PAGE = 1 << 20


def lines():
    state = 0x9E3779B97F4A7C15
    mask = (1 << 64) - 1
    words = ["order taken", "payment checked", "stock reserved", "retrying", "parcel sent"]

    def following():
        nonlocal state
        state ^= (state << 13) & mask
        state ^= state >> 7
        state ^= (state << 17) & mask
        return state

    text, length = [], 0
    while length < 4 << 20:
        number, at, ms = following(), 1_795_230_000_000 + following() % 3_600_000, following() % 900
        what = words[following() % 5]
        message = f'{{\\"level\\":\\"INFO\\",\\"request\\":\\"{number:016x}\\",\\"duration_ms\\":{ms},\\"message\\":\\"{what}\\"}}'
        line = (
            f'{{"log_group":"/aws/lambda/orders","log_stream":"2026/11/21/[$LATEST]{number % 7:016x}","timestamp":{at},'
            f'"ingestion_time":{at + 900},"event_id":"{following():020}{following() % 10**16:016}","message":"{message}"}}\n'
        )
        text.append(line)
        length += len(line)
    return "".join(text).encode()


def main():
    mib = int(sys.argv[1])
    data = lines()
    pages = [data[at : at + PAGE] for at in range(0, len(data) - PAGE + 1, PAGE)]
    del data
    began = time.monotonic()
    config = Config(s3={"addressing_style": "path", "payload_signing_enabled": False})
    s3 = boto3.client("s3", config=config)
    place = {"Bucket": "evidence", "Key": "incidents/bench.jsonl.gz"}
    upload = s3.create_multipart_upload(**place, ChecksumAlgorithm="SHA256")["UploadId"]
    encoder = zlib.compressobj(6, zlib.DEFLATED, 31)
    content, stored, length, parts, held = hashlib.sha256(), hashlib.sha256(), 0, [], bytearray()

    def send():
        nonlocal held, length
        checksum = base64.b64encode(hashlib.sha256(held).digest()).decode()
        number = len(parts) + 1
        answer = s3.upload_part(**place, UploadId=upload, PartNumber=number, Body=bytes(held), ChecksumSHA256=checksum)
        parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum})
        stored.update(held)
        length += len(held)
        held = bytearray()

    for at in range(mib):
        page = pages[at % len(pages)]
        content.update(page)
        held += encoder.compress(page)
        if len(held) >= PART:
            send()
    held += encoder.flush()
    send()
    s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})
    seconds, usage = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    told = {"seconds": seconds, "stored": length, "peak_kb": usage.ru_maxrss}
    print(json.dumps({**told, "user": usage.ru_utime, "system": usage.ru_stime}))


main()
