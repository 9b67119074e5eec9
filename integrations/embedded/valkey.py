"""The embedded Valkey (it speaks Redis): append-only file, random password, run as a child on a loopback port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from typing import Any

from integrations.embedded import process
from integrations.embedded.binaries import valkey_server
from integrations.embedded.server import Place, Server

DATABASES = 64


class Valkey(Server):
    name = "valkey"
    death_signal = signal.SIGTERM
    needed_mb = 20

    def __init__(self, *, place: Place, password: str, port: int | None) -> None:
        super().__init__(place=place, password=password, port=port)
        self._executable = valkey_server(runtime_root=place.root, account=self._account)

    def prepare(self) -> None:
        if not self.data.exists():
            self._folder_create(self.data)

    def launch(self) -> subprocess.Popen[bytes]:
        settings = {
            "bind": "127.0.0.1",
            "port": self.port,
            "requirepass": self.password,
            "dir": json.dumps(str(self.data), ensure_ascii=False),
            "databases": DATABASES,
            # Snapshots alone lose a queue when the process is killed.
            "appendonly": "yes",
            "appendfsync": "everysec" if self._durable else "no",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        # By standard input: an argument would show the password to every user of the machine.
        configuration = "".join(f"{name} {value}\n" for name, value in settings.items())
        return process.spawn(
            [self._executable, "-"],
            log=self.log,
            death_signal=self.death_signal,
            environment=self.environment(),
            account=self._account,
            stdin=configuration.encode(),
        )

    def is_ready(self, child: subprocess.Popen[bytes]) -> bool:
        # Only our own child knows the password, and it isn't ready while it still loads its file.
        return self._ask(f"AUTH {self.password}", "PING").endswith("+OK\r\n+PONG\r\n")

    def describe(self) -> dict[str, Any]:
        answer = self._ask(f"AUTH {self.password}", "INFO server")
        versions = dict(line.split(":", 1) for line in answer.splitlines() if ":" in line)
        return {"version": versions.get("valkey_version") or versions.get("redis_version", "")}

    def stop(self, *, every: bool = False) -> None:
        self._stop_child(signal.SIGTERM, seconds=10)
        if every:
            process.processes_stop(
                "valkey-server", folder=self.data, signals=((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
            )

    def _ask(self, *commands: str) -> str:
        """Send the commands, read for as long as the server keeps talking; empty when it isn't there."""
        answer = b""
        try:
            with socket.create_connection(("127.0.0.1", self.port or 0), timeout=2) as connection:
                connection.sendall("".join(f"{command}\r\n" for command in (*commands, "QUIT")).encode())
                while piece := connection.recv(65536):
                    answer += piece
        except OSError:
            return ""
        return answer.decode(errors="replace").removesuffix("+OK\r\n")

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "HOME": os.fspath(self.data)}
