"""A site in one process: an OIDC issuer's documents over HTTP, an API over HTTPS. `make` makes keys and a token first."""

import base64, json, pathlib, ssl, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = pathlib.Path("/srv/site")
ISSUER = "http://127.0.0.1:9000"
PEOPLE = {"people": [{"name": "ada", "email": "ada@example.com"}]}


def run(*words, **more):
    return subprocess.run(words, check=True, capture_output=True, cwd=HERE, **more).stdout


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def make():
    run("openssl", "genrsa", "-out", "issuer.key", "2048")
    modulus = run("openssl", "rsa", "-in", "issuer.key", "-modulus", "-noout").decode().strip().split("=")[1]
    key = {"kty": "RSA", "kid": "one", "alg": "RS256", "use": "sig", "n": b64(bytes.fromhex(modulus)), "e": "AQAB"}
    (HERE / "jwks.json").write_text(json.dumps({"keys": [key]}))
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "portcullis", "sub": "bot", "groups": ["agents"], "jti": "1",
              "iat": now - 60, "nbf": now - 60, "exp": now + 86400}
    head = {"alg": "RS256", "typ": "JWT", "kid": "one"}
    signed = b64(json.dumps(head).encode()) + "." + b64(json.dumps(claims).encode())
    signature = run("openssl", "dgst", "-sha256", "-sign", "issuer.key", input=signed.encode())
    token = HERE / "token"
    token.touch(0o600)
    token.write_text(signed + "." + b64(signature))
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
        "-subj", "/CN=Example Internal CA", "-addext", "basicConstraints=critical,CA:TRUE",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "api.key", "-out", "api.csr", "-subj", "/CN=api.internal")
    (HERE / "api.ext").write_text("subjectAltName=DNS:api.internal\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n")
    run("openssl", "x509", "-req", "-in", "api.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
        "-days", "2", "-extfile", "api.ext", "-out", "api.pem")


class Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Issuer(Quiet):
    def do_GET(self):
        if self.path == "/.well-known/openid-configuration":
            self.answer({"issuer": ISSUER, "jwks_uri": ISSUER + "/jwks", "token_endpoint": ISSUER + "/token",
                         "authorization_endpoint": ISSUER + "/authorize", "response_types_supported": ["code"],
                         "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"]})
        elif self.path == "/jwks":
            self.answer(json.loads((HERE / "jwks.json").read_text()))
        else:
            self.send_error(404)


class Api(Quiet):
    def do_GET(self):
        if self.path != "/slow":
            return self.answer(PEOPLE)
        # Ten pieces, a second apart: longer than a daemon takes to be replaced.
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for i in range(10):
            piece = f"piece {i}\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
            time.sleep(1)
        self.wfile.write(b"0\r\n\r\n")


def serve():
    issuer = ThreadingHTTPServer(("127.0.0.1", 9000), Issuer)
    threading.Thread(target=issuer.serve_forever, daemon=True).start()
    api = ThreadingHTTPServer(("192.0.2.2", 443), Api)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(HERE / "api.pem", HERE / "api.key")
    api.socket = tls.wrap_socket(api.socket, server_side=True, do_handshake_on_connect=False)
    api.serve_forever()


make() if sys.argv[1:] == ["make"] else serve()
