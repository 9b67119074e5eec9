"""A real sshd on loopback that serves git repositories, run as an ordinary process with a configuration of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class SshServer:
    folder: Path
    port: int
    user: str
    #: The private key that is let in.
    key: str
    host_key_file: Path
    _config: Path
    _process: subprocess.Popen[bytes] | None = None

    def url(self, name: str) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}{self.folder / name}"

    def host_key_renew(self) -> None:
        """From now on the host shows another key, as an impostor would."""
        self.stop()
        self.host_key_file.unlink()
        key_make(self.host_key_file)
        self.start()

    def start(self) -> None:
        sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        assert sshd is not None, "these tests need sshd: apt-get install openssh-server"
        self._process = subprocess.Popen(
            [sshd, "-D", "-e", "-f", str(self._config)], stderr=(self._config.parent / "log").open("ab")
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, (self._config.parent / "log").read_text()
            time.sleep(0.05)
        raise AssertionError("sshd did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


def key_make(path: Path, *, passphrase: str = "") -> str:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True, stdin=subprocess.DEVNULL
    )
    return path.read_text()


@contextmanager
def ssh_server_run(folder: Path, apart: Path) -> Iterator[SshServer]:
    """Lets the test's own user in by one key; ``apart`` gets the keys and the configuration."""
    apart.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.geteuid() == 0:
        # Where sshd puts its unprivileged half; a package's start script would make it.
        Path("/run/sshd").mkdir(exist_ok=True, mode=0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host_key = apart / "host_key"
    key_make(host_key)
    key = key_make(apart / "client_key")
    authorized = apart / "authorized_keys"
    authorized.write_text((apart / "client_key.pub").read_text())
    config = apart / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nAuthorizedKeysFile {authorized}\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n"
        f"PermitRootLogin prohibit-password\nPidFile {apart / 'pid'}\nLogLevel VERBOSE\n"
        "SetEnv GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*\n"
    )
    server = SshServer(folder, port, getpass.getuser(), key, host_key, config)
    server.start()
    try:
        yield server
    finally:
        server.stop()
