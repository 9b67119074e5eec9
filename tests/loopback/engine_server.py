"""A container engine on loopback: Docker's API over a socket, and containers that really run.

It is strict. A container that isn't hardened is refused, as is a key that it doesn't know (an engine would ignore a
misspelt one), a version of the API that it doesn't speak, a mount whose source isn't there. What it starts runs in
bubblewrap over this machine's own programs, which stand in for the image; ``engine_runtime`` does that.
"""

from __future__ import annotations

import json
import re
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from .engine_hardening import hardening_problems
from .engine_runtime import Container, MountRefused, image_path

NEWEST, OLDEST = (1, 50), (1, 24)


@dataclass
class Image:
    """An image of the engine's."""

    image_id: str = "sha256:" + "ab" * 32
    system: str = "linux"
    machine: str = "amd64"
    #: Whether its programs are those that the sandbox's server needs.
    has_python: bool = True


@dataclass
class Fault:
    """What happens instead of an answer: an error status, a connection that is cut, or one that stays silent."""

    status: int = 0
    message: str = ""
    cut: bool = False
    silent: bool = False


@dataclass
class Engine:
    """The engine's state, for tests to set up and to look at."""

    images: dict[str, Image] = field(default_factory=lambda: {"archon-sandbox:latest": Image()})
    runtimes: set[str] = field(default_factory=lambda: {"runc"})
    security: list[str] = field(default_factory=lambda: ["name=seccomp,profile=builtin", "name=cgroupns"])
    podman: bool = False
    version: tuple[int, int] = NEWEST
    #: Where the engine's host has what clients call by another name: a prefix of theirs, a folder here.
    host_folders: dict[str, Path] = field(default_factory=dict)
    volumes: dict[str, Path] = field(default_factory=dict)
    #: By method and the last word of the path: `POST start`.
    faults: dict[str, Fault] = field(default_factory=dict)
    #: What is said of a container's end, whatever it was.
    reported_exit: int | None = None
    #: Bytes of output after which an attached stream is cut off.
    cut_after: int | None = None
    #: Send an attached stream's frames in pieces of this size.
    piece: int | None = None
    containers: dict[str, Container] = field(default_factory=dict)
    #: What was asked for, method and path, and each body of a container that was made.
    requests: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def find(self, name: str) -> Container | None:
        with self.lock:
            for container in self.containers.values():
                if container.name == name or container.container_id.startswith(name):
                    return container
        return None

    def running(self) -> list[Container]:
        with self.lock:
            return [container for container in self.containers.values() if container.running]


class EngineServer:
    """Serves an engine at ``address``, a unix socket or, with ``tls``, a port; a context manager."""

    def __init__(
        self, path: Path | None = None, *, engine: Engine | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.engine = engine or Engine()
        engine_held = self.engine

        class Handler(_Handler):
            engine = engine_held

        self._server: socketserver.BaseServer
        if path is not None:
            self._server = _UnixServer(str(path), Handler)
            self.address = f"unix://{path}"
        else:
            self._server = _TCPServer(("127.0.0.1", 0), Handler)
            if tls is not None:
                self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
            self.address = f"tcp://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for container in list(self.engine.containers.values()):
            container.kill()


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


class _TCPServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that doesn't show a certificate is dropped, and that is all."""


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: Engine

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read what was recorded."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else b""
        self.engine.requests.append(f"{self.command} {parts.path}")
        fault = self.engine.faults.get(f"{self.command} {self._word(parts.path)}")
        try:
            if fault is not None and fault.silent:
                self.connection.recv(1)
            if fault is not None and (fault.cut or fault.silent):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if fault is not None:
                raise _Refused(fault.status, fault.message)
            self._route(parts.path)
        except _Refused as refusal:
            self._json(refusal.status, {"message": refusal.message})
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    def _word(self, path: str) -> str:
        if self.command == "DELETE":
            return "container"
        last = path.rpartition("/")[2]
        return "image" if "/images/" in path else ("inspect" if re.search(r"/containers/[^/]+/json$", path) else last)

    def _route(self, path: str) -> None:
        if path == "/version":
            self._version()
            return
        if path == "/_ping":
            self._send(200, b"OK", "text/plain")
            return
        match = re.fullmatch(r"/v(\d+)\.(\d+)(/.*)", path)
        if match is None:
            raise _Refused(404, "page not found")
        asked = (int(match[1]), int(match[2]))
        if not OLDEST <= asked <= self.engine.version:
            newest = ".".join(map(str, self.engine.version))
            raise _Refused(400, f"client version {match[1]}.{match[2]} is too new. Maximum supported is {newest}")
        rest = match[3]
        for method, pattern, handler in self._routes():
            found = re.fullmatch(pattern, rest)
            if found and method == self.command:
                handler(*found.groups())
                return
        raise _Refused(404, "page not found")

    def _routes(self) -> list[tuple[str, str, Callable[..., None]]]:
        name = r"/containers/([A-Za-z0-9][\w.-]*)"
        return [
            ("GET", r"/version", self._version),
            ("GET", r"/info", self._info),
            ("GET", r"/images/(.+)/json", self._image),
            ("GET", r"/containers/json", self._list),
            ("POST", r"/containers/create", self._create),
            ("POST", rf"{name}/attach", self._attach),
            ("POST", rf"{name}/start", self._start),
            ("POST", rf"{name}/wait", self._wait),
            ("POST", rf"{name}/kill", self._kill),
            ("GET", rf"{name}/json", self._inspect),
            ("DELETE", name, self._remove),
        ]

    # --- the engine and its images ------------------------------------------------------------------------------------
    def _version(self) -> None:
        name = "Podman Engine" if self.engine.podman else "Engine"
        newest = ".".join(map(str, self.engine.version))
        self._json(200, {"ApiVersion": newest, "MinAPIVersion": "1.24", "Os": "linux", "Components": [{"Name": name}]})

    def _info(self) -> None:
        runtimes = {name: {"path": name} for name in self.engine.runtimes}
        self._json(200, {"SecurityOptions": self.engine.security, "Runtimes": runtimes, "OSType": "linux"})

    def _image(self, name: str) -> None:
        for known, image in self.engine.images.items():
            if name in (known, image.image_id):
                config = {"Env": [f"PATH={image_path()}", "FROM_IMAGE=yes"]}
                answer = {"Id": image.image_id, "Os": image.system, "Architecture": image.machine, "Config": config}
                self._json(200, answer)
                return
        raise _Refused(404, f"No such image: {name}")

    # --- containers ---------------------------------------------------------------------------------------------------
    def _create(self) -> None:
        if self.headers.get("Content-Type") != "application/json":
            raise _Refused(415, "unsupported media type")
        body = json.loads(self.body)
        name = self.query.get("name", "")
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", name):
            raise _Refused(400, f"Invalid container name ({name})")
        if self.engine.find(name) is not None:
            raise _Refused(409, f'Conflict. The container name "/{name}" is already in use')
        image = next((image for image in self.engine.images.values() if image.image_id == body.get("Image")), None)
        if image is None:
            raise _Refused(404, f"No such image: {body.get('Image')}")
        problems = hardening_problems(body)
        if problems:
            raise _Refused(400, f"not hardened: {'; '.join(problems)}")
        runtime = body["HostConfig"].get("Runtime", "runc")
        if runtime not in self.engine.runtimes:
            raise _Refused(400, f"unknown or invalid runtime name: {runtime}")
        try:
            container = Container.make(
                name=name, body=body, host_folders=self.engine.host_folders, volumes=self.engine.volumes
            )
        except MountRefused as error:
            raise _Refused(400, str(error)) from error
        with self.engine.lock:
            self.engine.containers[container.container_id] = container
            self.engine.bodies.append(body)
        self._json(201, {"Id": container.container_id, "Warnings": []})

    def _attach(self, name: str) -> None:
        container = self._container(name)
        if self.headers.get("Upgrade") != "tcp" or self.query.get("stream") != "1":
            raise _Refused(400, "this engine hijacks upgraded connections only")
        self.connection.sendall(
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
            b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
        self.close_connection = True
        stream = _Hijacked(self.connection, cut_after=self.engine.cut_after, piece=self.engine.piece)
        container.attach(stream.send, stream.end)
        try:
            while data := self.rfile.read1(65536):
                container.feed(data)
        except (OSError, ValueError):
            pass
        # StdinOnce: the first client that goes takes standard input with it.
        container.feed_end()
        stream.gone.wait()

    def _start(self, name: str) -> None:
        container = self._container(name)
        if container.process is not None:
            self._send(304, b"", "application/json")
            return
        image = next(image for image in self.engine.images.values() if image.image_id == container.body["Image"])
        program = container.body["Entrypoint"][0]
        if not image.has_python:
            raise _Refused(
                400,
                "failed to create task for container: failed to create shim task: OCI runtime create failed: runc "
                "create failed: unable to start container process: error during container init: exec: "
                f'"{program}": executable file not found in $PATH: unknown',
            )
        container.start()
        self._send(204, b"", "application/json")

    def _wait(self, name: str) -> None:
        container = self._container(name)
        if self.query.get("condition", "not-running") != "not-running":
            raise _Refused(400, f"unexpected condition: {self.query['condition']}")
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        status = container.wait()
        if self.engine.reported_exit is not None:
            status = self.engine.reported_exit
        body = json.dumps({"StatusCode": status}).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        self.wfile.flush()

    def _kill(self, name: str) -> None:
        container = self._container(name)
        if self.query.get("signal", "SIGKILL") != "SIGKILL":
            raise _Refused(400, "this engine knows SIGKILL alone")
        if not container.running:
            raise _Refused(409, f"cannot kill container: {name}: container {container.container_id} is not running")
        container.kill()
        self._send(204, b"", "application/json")

    def _inspect(self, name: str) -> None:
        container = self._container(name)
        answer = {"Id": container.container_id, "Name": f"/{container.name}", "State": container.state()}
        self._json(200, {**answer, "Config": {"Tty": container.body["Tty"], "Labels": container.body["Labels"]}})

    def _remove(self, name: str) -> None:
        container = self._container(name)
        if container.running:
            if self.query.get("force") not in ("true", "True", "1"):
                raise _Refused(409, f'cannot remove container "/{container.name}": container is running')
            container.kill()
        with self.engine.lock:
            self.engine.containers.pop(container.container_id, None)
        container.end_streams()
        self._send(204, b"", "application/json")

    def _list(self) -> None:
        filters = json.loads(self.query.get("filters", "{}"))
        if set(filters) - {"label"}:
            raise _Refused(400, f"invalid filter {sorted(filters)}")
        found = []
        for container in list(self.engine.containers.values()):
            labels = container.body.get("Labels", {})
            pairs = [wanted.partition("=") for wanted in filters.get("label", [])]
            fits = all(labels.get(key) == value if equals else key in labels for key, equals, value in pairs)
            if fits and (container.running or self.query.get("all") in ("true", "True", "1")):
                names = [f"/{container.name}"]
                found.append({"Id": container.container_id, "Names": names, "Labels": labels})
        self._json(200, found)

    def _container(self, name: str) -> Container:
        container = self.engine.find(name)
        if container is None:
            raise _Refused(404, f"No such container: {name}")
        return container

    # --- answers ------------------------------------------------------------------------------------------------------
    def _json(self, status: int, value: Any) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        if status not in (204, 304):
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


class _Hijacked:
    """A connection that became a stream: frames of a kind, three zeros, a length, and the bytes."""

    def __init__(self, connection: socket.socket, *, cut_after: int | None, piece: int | None) -> None:
        self._connection = connection
        self._left = cut_after
        self._piece = piece
        self._lock = threading.Lock()
        self.gone = threading.Event()

    def send(self, kind: int, data: bytes) -> None:
        frame = struct.pack(">BxxxL", kind, len(data)) + data
        with self._lock:
            if self.gone.is_set():
                return
            if self._left is not None and len(frame) > self._left:
                frame = frame[: self._left]
            try:
                for start in range(0, len(frame), self._piece or len(frame)):
                    self._connection.sendall(frame[start : start + (self._piece or len(frame))])
            except OSError:
                self.gone.set()
                return
            if self._left is not None:
                self._left -= len(frame)
        if self._left == 0:
            self.end()

    def end(self) -> None:
        with self._lock:
            if not self.gone.is_set():
                self.gone.set()
                try:
                    self._connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
