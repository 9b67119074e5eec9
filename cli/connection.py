"""Which server a command talks to: the one that was named, or this machine's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cli.client import Api, token_from_environment
from cli.command import server_named
from cli.errors import CliError
from config.bootstrap import variables_read

#: The name under which a local stack's projects are remembered: its port may be another each time.
LOCAL_SERVER = "local"


@dataclass(frozen=True)
class Connection:
    api: Api
    #: The server's address, or LOCAL_SERVER.
    server: str
    home: Path
    #: Let a local stack that this command started live on after it.
    keep: Callable[[], None]


@contextmanager
def connection_open(server: str | None, *, console: Console) -> Iterator[Connection]:
    """A client of ``server`` (else ``ARCHON_SERVER``), else of the local stack, which is started when it isn't up.

    ``console`` gets the progress of a start.
    """
    home = variables_read()
    if server:
        server_named.set(server)
    named = server or os.environ.get("ARCHON_SERVER", "").strip()
    if named:
        with Api(base_url=named, token=token_from_environment()) as api:
            yield Connection(api=api, server=api.base_url, home=home, keep=lambda: None)
        return
    # Imported here: starting services is of no concern to a client of another machine's server.
    from cli.stack import StackUnavailable, stack_attach

    with ExitStack() as held:
        try:
            with console.status("looking for the local server") as status:

                def tell(phase: str) -> None:
                    status.update(Text(phase))
                    if not console.is_terminal:
                        console.print(Text(phase), soft_wrap=True)

                stack = held.enter_context(stack_attach(home, progress=tell))
        except StackUnavailable as error:
            raise CliError(error.message, next_step=error.next_step, code="stack_unavailable") from error
        try:
            token = stack.token_path.read_text().strip()
        except OSError as error:
            raise CliError(
                f"the local server left no token at {stack.token_path}: {error.strerror}",
                next_step="archon doctor",
                code="no_token",
            ) from error
        with Api(base_url=stack.url, token=token) as api:
            yield Connection(api=api, server=LOCAL_SERVER, home=home, keep=stack.keep)
