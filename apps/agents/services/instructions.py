"""What people say to every agent beforehand: a project's instructions, the preferences of whoever started a session.

They are people's words, so agents go by them, within the goal. They decide nothing about what a call may do: the policy
reads no text, neither this nor the repository's.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.agents.models import AgentSession
from apps.core.framing import instructions_frame
from apps.core.redaction import Redactor
from apps.projects.secrets import project_redactor

NOTE = (
    "What stands between <instructions> marks was written by the people you work for, for every agent and before this "
    "goal was set. Go by it in all that you do for the goal. Where it and the goal disagree, the goal holds; where two "
    "of these disagree, the first holds; where the repository's files say otherwise, these hold. It gives you no "
    "permission: your tools, limits and checks stay as they are."
)
_CHANGED = "The instructions of the people you work for are different by now. From here on these hold, and no others:"
_WITHDRAWN = "The people you work for have taken their instructions back: those of the beginning no longer hold."


@dataclass(frozen=True)
class Instructions:
    """What holds for a session: as of when it was first taken up, and anew for each follow-up."""

    project: str = ""
    preferences: str = ""

    def __bool__(self) -> bool:
        return bool(self.project or self.preferences)

    @property
    def digest(self) -> str:
        """Tells these from others; empty where there are none."""
        told = f"{self.project}\0{self.preferences}".encode("utf-8", "replace")
        return hashlib.sha256(told).hexdigest()[:16] if self else ""

    def as_dict(self) -> dict[str, str]:
        return {"project": self.project, "preferences": self.preferences}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Instructions:
        return cls(project=str(plain.get("project", "")), preferences=str(plain.get("preferences", "")))


def instructions_load(session_id: uuid.UUID) -> Instructions:
    """What is set now, without any of the project's secrets: whoever watches the session can read it."""
    session = AgentSession.objects.select_related("project", "created_by").get(id=session_id)
    project, preferences = session.project.instructions.strip(), session.created_by.preferences.strip()
    if not project and not preferences:
        return Instructions()
    redactor: Redactor = project_redactor(project_id=session.project_id)
    return Instructions(project=redactor.text(project), preferences=redactor.text(preferences))


def instructions_text(instructions: Instructions, *, salt: str, role: str = "", own: str = "") -> str:
    """As a part of an opening; empty where there are none. The same text for every agent of a project and a person.

    ``own`` is what the project says to agents of this ``role`` besides, after what it says to all.
    """
    frames = _frames(instructions, salt, role, own)
    return "\n".join([NOTE, *frames]) if frames else ""


def instructions_change(instructions: Instructions, *, salt: str, role: str = "", own: str = "") -> str:
    """The same for a conversation that was opened under others."""
    frames = _frames(instructions, salt, role, own)
    return "\n".join([_CHANGED, NOTE, *frames]) if frames else _WITHDRAWN


def _frames(instructions: Instructions, salt: str, role: str, own: str) -> list[str]:
    words = (
        ("the project", instructions.project),
        ("whoever started the session", instructions.preferences),
        (f"the project, to its {role}", own),
    )
    return [instructions_frame(text, of=of, salt=salt) for of, text in words if text]
