"""What commands printed, kept for as long as the agent works on its task, within a bound."""

from __future__ import annotations

from apps.projects.sandbox.kept_output import KeptOutput
from apps.projects.workspace import OutputPage

#: Bytes that are kept of one command and of all; the oldest go first.
ONE_LIMIT = 1_000_000
ALL_LIMIT = 4_000_000


class CommandOutputs:
    """Outputs that were too long to be shown, by the id of their call. In memory: a worker's end is theirs."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[KeptOutput, int]] = {}

    def keep(self, command_id: str, text: str) -> None:
        data = text.encode(errors="replace")
        output = KeptOutput(limit=ONE_LIMIT)
        output.add(data)
        self._kept[command_id] = (output, min(len(data), ONE_LIMIT))
        while sum(size for _, size in self._kept.values()) > ALL_LIMIT:
            del self._kept[next(iter(self._kept))]

    def page(self, command_id: str, *, offset: int, limit: int) -> OutputPage | None:
        """A piece of it, or None when nothing is kept of that id."""
        known = self._kept.get(command_id)
        return None if known is None else known[0].page(offset=offset, limit=limit)

    def clear(self) -> None:
        self._kept.clear()
