"""A receiver of events that does as it is told, in one of the protocols: otlp-http, otlp-grpc, hec.

OTLP is decoded with OpenTelemetry's own classes (opentelemetry-proto). HEC follows Splunk's documentation: tokens,
codes, events one after the other, invalid-event-number, indexer acknowledgement. What is taken is one JSON object a line
in --out, durable before the answer. --mode names a file whose word says how to behave: ok, busy, slow, garbage, partial,
small (takes at most five at once). --port-file gets the port.
"""

import argparse
import gzip
import http.server
import json
import os
import pathlib
import ssl
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import duration_pb2, any_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as service
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as service_grpc

TOKEN = "c0ffee-token"
SMALL = 5
# Longer than any time-out in the tests.
SLOW = 5

args = argparse.ArgumentParser()
args.add_argument("protocol", choices=["otlp-http", "otlp-grpc", "hec"])
for name in ["out", "mode", "port-file"]:
    args.add_argument("--" + name, type=pathlib.Path, required=True)
args.add_argument("--port", type=int, default=0)
for name in ["cert", "key", "client-ca"]:
    args.add_argument("--" + name, type=pathlib.Path)
args.add_argument("--ack", action="store_true")
args = args.parse_args()

lock = threading.Lock()
acks = {}


def mode():
    return args.mode.read_text().strip()


def take(events):
    with lock, open(args.out, "a", encoding="utf-8") as out:
        for event in events:
            out.write(json.dumps(event) + "\n")
        out.flush()
        os.fsync(out.fileno())


def say_port(port):
    ready = args.port_file.with_suffix(".new")
    ready.write_text(str(port))
    ready.rename(args.port_file)


def plain(value):
    """OTLP's AnyValue as what it stands for."""
    which = value.WhichOneof("value")
    if which is None:
        return None
    if which == "array_value":
        return [plain(v) for v in value.array_value.values]
    if which == "kvlist_value":
        return {kv.key: plain(kv.value) for kv in value.kvlist_value.values}
    return getattr(value, which)


def records(request):
    for resource in request.resource_logs:
        of = {kv.key: plain(kv.value) for kv in resource.resource.attributes}
        assert of["service.name"] == "portcullis" and of["host.name"], of
        for scope in resource.scope_logs:
            assert scope.scope.name == "portcullis.ledger", scope.scope
            for record in scope.log_records:
                attributes = {kv.key: plain(kv.value) for kv in record.attributes}
                assert record.observed_time_unix_nano >= record.time_unix_nano > 0
                yield {
                    "seq": attributes["portcullis.seq"],
                    "id": attributes["log.record.uid"],
                    "name": record.event_name,
                    "severity": record.severity_number,
                    "time": record.time_unix_nano,
                    "body": plain(record.body),
                }


def export(request):
    """Takes a request; the answer."""
    found = list(records(request))
    answer = service.ExportLogsServiceResponse()
    if mode() == "partial":
        answer.partial_success.rejected_log_records = 1
        answer.partial_success.error_message = "one of them is bad"
        found = found[1:]
    take(found)
    return answer


class Logs(service_grpc.LogsServiceServicer):
    def Export(self, request, context):
        if dict(context.invocation_metadata()).get("authorization") != "Bearer " + TOKEN:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        count = sum(len(s.log_records) for r in request.resource_logs for s in r.scope_logs)
        if mode() == "small" and count > SMALL:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "received message larger than max (5 vs. 4)")
        if mode() == "busy":
            # google.rpc.RetryInfo{retry_delay}: field 1, a message.
            delay = duration_pb2.Duration(nanos=10_000_000).SerializeToString()
            info = any_pb2.Any(
                type_url="type.googleapis.com/google.rpc.RetryInfo",
                value=b"\x0a" + bytes([len(delay)]) + delay,
            ).SerializeToString()
            status = b"\x08\x0e\x1a" + bytes([len(info)]) + info
            context.set_trailing_metadata([("grpc-status-details-bin", status)])
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy %")
        if mode() == "slow":
            time.sleep(SLOW)
        if mode() == "garbage":
            context.abort(grpc.StatusCode.INTERNAL, "<html>\u00e9")
        return export(request)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        print(format % args, flush=True)

    def answer(self, status, body, kind="application/json", **headers):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if mode() == "slow":
            time.sleep(SLOW)
        if mode() == "garbage":
            return self.answer(200, b"<html>hello</html>", "text/html")
        (self.otlp if args.protocol == "otlp-http" else self.hec)(body)

    def otlp(self, body):
        kind = "application/x-protobuf"
        if self.headers.get("Authorization") != "Bearer " + TOKEN:
            return self.answer(401, b"", kind)
        if self.path != "/v1/logs" or self.headers["Content-Type"] != kind:
            return self.answer(404, b"", kind)
        if mode() == "busy":
            return self.answer(503, b"", kind, Retry_After="1")
        request = service.ExportLogsServiceRequest.FromString(body)
        if mode() == "small" and sum(len(s.log_records) for r in request.resource_logs for s in r.scope_logs) > SMALL:
            return self.answer(413, b"", kind)
        self.answer(200, export(request).SerializeToString(), kind)

    def said(self, status, text, code, **more):
        self.answer(status, json.dumps({"text": text, "code": code, **more}).encode())

    def hec(self, body):
        path, _, query = self.path.partition("?")
        if self.headers.get("Authorization") != "Splunk " + TOKEN:
            return self.said(403, "Invalid token", 4)
        channel = self.headers.get("X-Splunk-Request-Channel")
        if args.ack and not channel:
            return self.said(400, "Data channel is missing", 10)
        if path == "/services/collector/ack":
            assert query == "channel=" + channel, query
            wanted = json.loads(body)["acks"]
            # Indexed by the second time it is asked for.
            said = {str(ack): acks.get((channel, ack), 0) > 0 for ack in wanted}
            for ack in wanted:
                acks[channel, ack] = acks.get((channel, ack), 0) + 1
            return self.answer(200, json.dumps({"acks": said}).encode())
        if path != "/services/collector/event":
            return self.answer(404, b"not here")
        if mode() == "busy":
            return self.said(503, "Server is busy", 9)
        text, at, found = body.decode(), 0, []
        decoder = json.JSONDecoder()
        while text[at:].strip():
            at += len(text[at:]) - len(text[at:].lstrip())
            try:
                event, at = decoder.raw_decode(text, at)
                good = event["event"] and isinstance(event["time"], float) and event["fields"]["entry_id"]
            except (ValueError, KeyError):
                good = False
            if not good or (mode() == "partial" and event["fields"]["kind"] == "gap"):
                take(found)
                return self.said(400, "Invalid data format", 6, **{"invalid-event-number": len(found)})
            assert event["source"] == "portcullis" and event["sourcetype"] == "portcullis:ocsf", event
            found.append(
                {
                    "seq": int(event["fields"]["seq"]),
                    "id": event["fields"]["entry_id"],
                    "time": event["time"],
                    "body": event["event"],
                }
            )
        if mode() == "small" and len(found) > SMALL:
            return self.answer(413, b"too large")
        take(found)
        more = {"ackId": len(acks)} if args.ack else {}
        self.said(200, "Success", 0, **more)


def main():
    if args.protocol == "otlp-grpc":
        server = grpc.server(futures.ThreadPoolExecutor(8))
        service_grpc.add_LogsServiceServicer_to_server(Logs(), server)
        where = f"127.0.0.1:{args.port}"
        if args.cert:
            pairs = [(args.key.read_bytes(), args.cert.read_bytes())]
            ca = args.client_ca.read_bytes() if args.client_ca else None
            secrets = grpc.ssl_server_credentials(pairs, ca, require_client_auth=ca is not None)
            port = server.add_secure_port(where, secrets)
        else:
            port = server.add_insecure_port(where)
        server.start()
        say_port(port)
        server.wait_for_termination()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", args.port), Handler)
    if args.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(args.cert, args.key)
        if args.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(args.client_ca)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    say_port(server.server_address[1])
    server.serve_forever()


main()
