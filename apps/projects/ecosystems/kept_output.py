"""What a runner prints, kept whole: for those that tell their results in no other way."""

from __future__ import annotations

from apps.projects.ecosystems.results import file_read
from apps.projects.ecosystems.types import LENT, RESULTS, Results

_NAME = "output.txt"
#: Waiting for the last line, but not for what a test left running with the pipe still open.
_KEPT = """\
exec 3> >(exec {through})
keeper=$!
(
{command}
) >&3 2>&1 3>&-
code=$?
exec 3>&-
for _ in $(seq 50); do kill -0 $keeper 2>/dev/null || break; sleep 0.1; done
exit $code"""


def output_keep(command: str, *, through: str = "tee {path}") -> str:
    """The command line that also writes all its output to a file. ``through``: what it is passed on by."""
    return _KEPT.format(command=command, through=through.format(path=f"{RESULTS}/{_NAME}", lent=LENT))


def output_kept(results: Results) -> str:
    """The output that was kept; empty when there is none, or more of it than is read."""
    content = file_read(results.folder / _NAME)
    return "" if content is None else content.decode("utf-8", "replace")
