"""A call that waits for leave, and what a person says to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from cli.client import Api
from cli.errors import CliError
from cli.resources import Approval
from cli.text import text_clean

#: What is shown of one argument, in characters; the rest is in ``archon show SESSION --json``.
_SHOWN = 4000


@dataclass(frozen=True)
class Decision:
    """What a person says: members of the request to ``approve/``."""

    decision: str
    message: str = ""
    arguments: dict[str, Any] | None = None
    always_minutes: int | None = None

    def members(self) -> dict[str, Any]:
        members: dict[str, Any] = {"decision": self.decision, "message": self.message}
        if self.arguments is not None:
            members["arguments"] = self.arguments
        if self.always_minutes is not None:
            members["always"] = {"minutes": self.always_minutes}
        return members

    @property
    def told(self) -> str:
        return {"approve": "approved", "edit": "approved with other arguments", "reject": "rejected"}[self.decision]


def approval_show(approval: Approval, *, console: Console) -> None:
    """The call as it would be made, and what it may do."""
    console.print(
        Text.assemble(("\nMay it run ", "bold yellow"), (text_clean(approval.name), "bold"), ("?", "bold yellow"))
    )
    for name, value in approval.arguments.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        shown = text_clean(text[:_SHOWN])
        cut = f"\n… {len(text) - _SHOWN} more characters" if len(text) > _SHOWN else ""
        console.print(Text(f"  {text_clean(name)}: {shown}{cut}"), soft_wrap=True)
    console.print(Text(f"  risk: {approval.risk}", style="yellow"))
    for reason in approval.reasons:
        console.print(Text(f"  - {text_clean(reason)}", style="dim"), soft_wrap=True)


def approval_send(api: Api, session_id: str, approval: Approval, decision: Decision) -> None:
    api.session_approve(session_id, call=approval.call, digest=approval.digest, **decision.members())


def arguments_read(text: str) -> dict[str, Any]:
    """Arguments as JSON, or from a file that is named with an @."""
    try:
        given = json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        raise CliError(
            f"the arguments can't be read: {error}",
            next_step="""write them as one JSON object: --edit '{"command": "ls"}'""",
            code="invalid_input",
        ) from error
    if not isinstance(given, dict):
        raise CliError("the arguments are no JSON object", next_step="write {…}", code="invalid_input")
    return given
