"""Git over https as a forge speaks it: ``git http-backend`` behind TLS, with a certificate authority of the test's own.

Strict: without the right token it answers 401, to a repository that a token may not read (or write) 403, and it counts
every connection that it saw, so that a test can tell that none came.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class GitServer:
    """Serves the repositories below ``folder``; those named in ``tokens`` want that token."""

    folder: Path
    port: int
    ca_file: Path
    scheme: str = "https"
    #: Tokens by the first part of a repository's path.
    tokens: dict[str, str] = field(default_factory=dict)
    #: First parts of paths that nothing may be pushed to, whatever the token.
    read_only: set[str] = field(default_factory=set)
    #: Names that are sent elsewhere.
    redirects: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    #: Set: answers stop before the pack until it is cleared.
    stalled: threading.Event = field(default_factory=threading.Event)
    stall_entered: threading.Event = field(default_factory=threading.Event)

    def url(self, name: str, *, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}/{name}"


@contextmanager
def git_server_run(folder: Path, apart: Path, *, tls: bool = True) -> Iterator[GitServer]:
    """A server of the bare repositories below ``folder``; ``apart`` gets its keys."""
    apart.mkdir(parents=True, exist_ok=True)
    ca_file, chain = _certificates(apart)

    class Handler(_Handler):
        pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True, do_handshake_on_connect=False)
    server = GitServer(folder=folder, port=httpd.server_address[1], ca_file=ca_file, scheme="https" if tls else "http")
    Handler.server_state = server
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stalled.clear()
        httpd.shutdown()
        httpd.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server_state: GitServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Silence: what matters is in ``requests``."""

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._serve(body)

    def _serve(self, body: bytes) -> None:
        state = self.server_state
        state.requests.append(f"{self.command} {self.path}")
        authorization = self.headers.get("Authorization", "")
        state.authorizations.append(authorization)
        parts = urlsplit(self.path)
        name = parts.path.strip("/").split("/")[0]
        if name in state.redirects:
            self._answer(302, {"Location": state.redirects[name] + self.path.removeprefix(f"/{name}")}, b"")
            return
        wanted = state.tokens.get(name)
        if wanted is not None:
            given = ""
            if authorization.startswith("Basic "):
                given = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")[2]
            if given == "may-read-nothing":
                self._answer(403, {}, b"no")
                return
            if given != wanted:
                self._answer(401, {"WWW-Authenticate": 'Basic realm="git"'}, f"what is {given}?".encode())
                return
        if state.stalled.is_set() and self.command == "POST":
            state.stall_entered.set()
            while state.stalled.is_set():
                threading.Event().wait(0.05)
        if name in state.read_only and "git-receive-pack" in self.path:
            self._answer(403, {}, b"no")
            return
        environment = {
            "PATH": os.defpath,
            "GIT_PROJECT_ROOT": str(state.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_COUNT": "3",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_CONFIG_KEY_1": "uploadpack.allowReachableSHA1InWant",
            "GIT_CONFIG_VALUE_1": "true",
            "GIT_CONFIG_KEY_2": "http.receivepack",
            "GIT_CONFIG_VALUE_2": "true",
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        status, headers = 200, {}
        for line in head.decode().split("\r\n"):
            key, _, value = line.partition(": ")
            if key == "Status":
                status = int(value.split()[0])
            elif key:
                headers[key] = value
        self._answer(status, headers, content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for key, value in headers.items():
            if key.lower() != "content-length":
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _certificates(apart: Path) -> tuple[Path, Path]:
    """The authority's certificate, and the server's with its key."""
    now = datetime.datetime.now(datetime.UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("Test authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = (
        builder("Test authority", ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName("git.test"), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        builder("git.test", key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    ca_file, chain = apart / "ca.pem", apart / "chain.pem"
    ca_file.write_bytes(ca.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain.write_bytes(certificate.public_bytes(pem) + private)
    return ca_file, chain
