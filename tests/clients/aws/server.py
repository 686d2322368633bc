"""AWS as the tests have it: moto, which holds every request against IAM and its signature, behind a check of everything
that moto does not look at: presigned requests, the pieces of signed streams, and placeholders.

    server.py ADDRESS PORT CHAIN KEY KEYS SEEN
"""

import datetime
import hashlib
import hmac
import io
import json
import os
import sys
import threading
import urllib.parse

os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "false"

from botocore.auth import S3SigV4Auth, SigV4Auth, SigV4QueryAuth  # noqa: E402
from botocore.awsrequest import AWSRequest  # noqa: E402
from botocore.credentials import Credentials  # noqa: E402
from moto import settings  # noqa: E402
from moto.iam.access_control import IAMRequestBase  # noqa: E402
from moto.iam.models import iam_backends  # noqa: E402
from moto.moto_server.werkzeug_app import (  # noqa: E402
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple  # noqa: E402

ACCOUNT = "123456789012"
PLACEHOLDERS = ("PLACEHOLDER", "placeholder")

address, port, chain, key_file, keys_file, seen_file = sys.argv[1:7]
lock = threading.Lock()


def user():
    """A user of IAM who may do everything, and its key."""
    iam = iam_backends[ACCOUNT]["aws"]
    iam.create_user(region_name="us-east-1", user_name="agent")
    policy = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
    iam.put_user_policy("agent", "everything", json.dumps(policy))
    return iam.create_access_key("agent")


def without_a_body(calculate):
    """moto hashes the headers where a request has no body: AWS hashes nothing."""

    def calculated(request):
        data, request._data = request._data, request._data if request._method == "POST" else {}
        try:
            return calculate(request)
        finally:
            request._data = data

    return calculated


IAMRequestBase._calculate_signature = without_a_body(IAMRequestBase._calculate_signature)


class Refused(Exception):
    pass


class Checked:
    """Refuses what is not signed with the real key as AWS would want it."""

    def __init__(self, app, access_key):
        self.app = app
        self.credentials = Credentials(access_key.access_key_id, access_key.secret_access_key)

    def __call__(self, environ, start_response):
        entry = {
            "method": environ["REQUEST_METHOD"],
            "host": environ["HTTP_HOST"],
            "path": environ["RAW_URI"] if "RAW_URI" in environ else environ["REQUEST_URI"],
            "payload": environ.get("HTTP_X_AMZ_CONTENT_SHA256"),
            "chunked": environ.get("HTTP_TRANSFER_ENCODING") == "chunked",
            "length": environ.get("CONTENT_LENGTH"),
        }
        try:
            self.check(environ, entry)
        except Refused as error:
            entry["refused"] = str(error)
        with lock, open(seen_file, "a") as seen:
            seen.write(json.dumps(entry) + "\n")
        if "refused" in entry:
            start_response("403 Forbidden", [("Content-Type", "text/plain"), ("Connection", "close")])
            return [entry["refused"].encode()]
        return self.app(environ, start_response)

    def check(self, environ, entry):
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])) if environ.get("CONTENT_LENGTH") else b""
        if entry["chunked"]:
            body = environ["wsgi.input"].read()
        sent = [str(v) for k, v in environ.items() if k.startswith("HTTP_")] + [entry["path"], body.decode("latin-1")]
        if any(p in text for p in PLACEHOLDERS for text in sent):
            raise Refused("a placeholder came up")
        query = urllib.parse.urlsplit(entry["path"]).query
        if "X-Amz-Signature=" in query:
            entry["auth"] = "query"
            self.presigned(environ, entry, query)
        elif "HTTP_AUTHORIZATION" in environ:
            entry["auth"] = "header"
            self.header(environ, entry, body)
        else:
            raise Refused("not signed")
        if (entry["payload"] or "").startswith("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"):
            self.pieces(environ, entry["payload"], body)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        environ.pop("HTTP_TRANSFER_ENCODING", None)

    def request(self, environ, entry, signed, body):
        headers = {}
        for name in signed.split(";"):
            key = "HTTP_" + name.upper().replace("-", "_")
            key = "CONTENT_TYPE" if name == "content-type" else key
            if key not in environ:
                raise Refused(f"{name} is signed and not there")
            headers[name] = environ[key]
        url = f"https://{entry['host']}{entry['path']}"
        return AWSRequest(method=entry["method"], url=url, data=body, headers=headers)

    def auth(self, cls, scope):
        region, service = scope.split("/")[2:4]
        return cls(self.credentials, service, region)

    def header(self, environ, entry, body):
        parts = dict(p.strip().split("=", 1) for p in environ["HTTP_AUTHORIZATION"].split(" ", 1)[1].split(","))
        scope, signed = parts["Credential"], parts["SignedHeaders"]
        entry["scope"] = "/".join(scope.split("/")[2:4])
        if not scope.startswith(self.credentials.access_key + "/"):
            raise Refused("another key")
        # All of these have to be signed.
        for key in environ:
            name = key[5:].lower().replace("_", "-")
            if key.startswith("HTTP_X_AMZ_") and name not in signed.replace("_", "-").split(";"):
                raise Refused(f"{name} is not signed")
        request = self.request(environ, entry, signed, body)
        request.context["timestamp"] = environ["HTTP_X_AMZ_DATE"]
        auth = self.auth(S3SigV4Auth if "/s3/" in scope else SigV4Auth, scope)
        payload = entry["payload"]
        if payload and len(payload) == 64 and payload != hashlib.sha256(body).hexdigest():
            raise Refused("the payload's hash is another")
        signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        if signature != parts["Signature"]:
            raise Refused("the signature is wrong")
        self.seed, self.scope, self.date = signature, scope, environ["HTTP_X_AMZ_DATE"]

    def presigned(self, environ, entry, query):
        pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
        given = dict(pairs)
        scope = given["X-Amz-Credential"]
        entry["scope"] = "/".join(scope.split("/")[2:4])
        if not scope.startswith(self.credentials.access_key + "/"):
            raise Refused("another key")
        date = datetime.datetime.strptime(given["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        now = datetime.datetime.now(datetime.timezone.utc)
        if now > date + datetime.timedelta(seconds=int(given["X-Amz-Expires"])):
            raise Refused("expired")
        rest = "&".join(p for p in query.split("&") if not p.startswith("X-Amz-Signature="))
        path = entry["path"].split("?")[0]
        whole = dict(entry, path=f"{path}?{rest}")
        request = self.request(environ, whole, given["X-Amz-SignedHeaders"], None)
        request.context["timestamp"] = given["X-Amz-Date"]
        request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
        auth = self.auth(S3SigV4Auth, scope)
        canonical = auth.canonical_request(request).replace("x-amz-content-sha256:UNSIGNED-PAYLOAD\n", "")
        canonical = canonical.replace("host;x-amz-content-sha256", "host").replace(";x-amz-content-sha256", "")
        if auth.signature(auth.string_to_sign(request, canonical), request) != given["X-Amz-Signature"]:
            raise Refused("the signature in the query is wrong")
        # moto looks at headers alone.
        plain = "&".join(p for p in query.split("&") if not p.startswith("X-Amz-"))
        target = path + ("?" + plain if plain else "")
        again = AWSRequest(method=entry["method"], url=f"https://{entry['host']}{target}", headers={"host": entry["host"]})
        again.context["payload_signing_enabled"] = False
        auth.add_auth(again)
        for name in ("Authorization", "X-Amz-Date", "X-Amz-Content-SHA256"):
            environ["HTTP_" + name.upper().replace("-", "_")] = again.headers[name]
        environ["QUERY_STRING"] = plain
        environ["REQUEST_URI"] = environ["RAW_URI"] = target

    def pieces(self, environ, kind, body):
        """The signatures of a stream, each over the one before it."""
        secret = ("AWS4" + self.credentials.secret_key).encode()
        _, day, region, service, _ = self.scope.split("/")
        for part in (day, region, service, "aws4_request"):
            secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
        stamp = f"{self.date}\n{day}/{region}/{service}/aws4_request"
        previous, at = self.seed, 0
        empty = hashlib.sha256(b"").hexdigest()
        while True:
            end = body.index(b"\r\n", at)
            size, signature = body[at:end].decode().split(";chunk-signature=")
            data = body[end + 2 : end + 2 + int(size, 16)]
            text = f"AWS4-HMAC-SHA256-PAYLOAD\n{stamp}\n{previous}\n{empty}\n{hashlib.sha256(data).hexdigest()}"
            previous = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
            if previous != signature:
                raise Refused("the signature of a piece is wrong")
            at = end + 2 + len(data)
            if not data:
                break
            at += 2
        if kind.endswith("-TRAILER"):
            lines = body[at:].decode().split("\r\n")
            trailers = "".join(line.strip() + "\n" for line in lines if line and "trailer-signature" not in line)
            text = f"AWS4-HMAC-SHA256-TRAILER\n{stamp}\n{previous}\n{hashlib.sha256(trailers.encode()).hexdigest()}"
            wanted = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
            if f"x-amz-trailer-signature:{wanted}" not in lines:
                raise Refused("the signature of the trailers is wrong")


class Handler(MotoRequestHandler):
    protocol_version = "HTTP/1.1"


def main():
    access_key = user()
    with open(keys_file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
        out.write(f"[default]\naws_access_key_id = {access_key.access_key_id}\n")
        out.write(f"aws_secret_access_key = {access_key.secret_access_key}\n")
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    app = Checked(DomainDispatcherApplication(create_backend_app), access_key)
    run_simple(
        address, int(port), app, threaded=True, request_handler=Handler, ssl_context=(chain, key_file), use_reloader=False
    )


main()
