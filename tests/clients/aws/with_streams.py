"""Uploads in pieces (aws-chunked), of each kind, signed with placeholders as SDKs of other languages do."""

import base64
import datetime
import hashlib
import hmac
import http.client
import os
import ssl
import zlib

import boto3

HOST, BUCKET, REGION = "agents-scratch.s3.us-east-1.amazonaws.com", "agents-scratch", "us-east-1"
ID, SECRET, TOKEN = (os.environ[k] for k in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"))
EMPTY = hashlib.sha256(b"").hexdigest()


def put(key, data, kind, chunked, pieces=64 * 1024):
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{now[:8]}/{REGION}/s3/aws4_request"
    headers = {
        "host": HOST,
        "x-amz-content-sha256": kind,
        "x-amz-date": now,
        "x-amz-decoded-content-length": str(len(data)),
        "x-amz-security-token": TOKEN,
        "content-encoding": "aws-chunked",
    }
    crc = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    if kind.endswith("-TRAILER"):
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    names = sorted(headers)
    canonical = "\n".join(
        ["PUT", f"/{key}", "", *(f"{n}:{headers[n]}" for n in names), "", ";".join(names), kind]
    )
    mac = ("AWS4" + SECRET).encode()
    for part in scope.split("/"):
        mac = hmac.new(mac, part.encode(), hashlib.sha256).digest()

    def sign(*lines):
        return hmac.new(mac, "\n".join(lines).encode(), hashlib.sha256).hexdigest()

    previous = sign("AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest())
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={ID}/{scope}, SignedHeaders={';'.join(names)}, Signature={previous}"
    )
    body = b""
    for at in [*range(0, len(data), pieces), len(data)]:
        piece = data[at : at + pieces]
        if kind.startswith("STREAMING-UNSIGNED"):
            body += b"%x\r\n" % len(piece)
        else:
            previous = sign("AWS4-HMAC-SHA256-PAYLOAD", now, scope, previous, EMPTY, hashlib.sha256(piece).hexdigest())
            body += b"%x;chunk-signature=%s\r\n" % (len(piece), previous.encode())
        body += piece + (b"\r\n" if piece else b"")
    if kind.endswith("-TRAILER"):
        body += f"x-amz-checksum-crc32:{crc}\r\n".encode()
        if not kind.startswith("STREAMING-UNSIGNED"):
            trailers = hashlib.sha256(f"x-amz-checksum-crc32:{crc}\n".encode()).hexdigest()
            body += f"x-amz-trailer-signature:{sign('AWS4-HMAC-SHA256-TRAILER', now, scope, previous, trailers)}\r\n".encode()
    body += b"\r\n"
    context = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
    connection = http.client.HTTPSConnection(HOST, context=context)
    if chunked:
        connection.request("PUT", f"/{key}", body=iter([body[i : i + 10_000] for i in range(0, len(body), 10_000)]),
                           headers=headers, encode_chunked=True)
    else:
        connection.request("PUT", f"/{key}", body=body, headers=headers)
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, (kind, chunked, answer.status, text)


s3 = boto3.client("s3")
number = 0
for kind in (
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
):
    for chunked in (False, True):
        for size in (0, 5, 200_000, 3_000_000):
            number += 1
            data = os.urandom(size)
            put(f"stream-{number}", data, kind, chunked)
            got = s3.get_object(Bucket=BUCKET, Key=f"stream-{number}")["Body"].read()
            assert got == data, (kind, chunked, size, len(got))
print("done")
