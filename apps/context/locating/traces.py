"""Stack traces and compilers' messages of several languages: which files and functions they name."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PATH = r"(?:[A-Za-z]:)?[\w./\\@~+$<>-]+"
#: Each names ``path``; ``line`` and ``function`` where they stand there.
_FRAMES = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        # Python: File "a/b.py", line 3, in f
        r"File \"(?P<path>[^\"\n]+)\", line (?P<line>\d+)(?:, in (?P<function>[\w<>.]+))?",
        # pytest: a/b.py:3: AssertionError, and a/b.py:3: in f
        rf"^(?P<path>{_PATH}\.pyi?):(?P<line>\d+): (?:in (?P<function>\w+)|\w+)",
        # JavaScript, TypeScript: at Object.f (a/b.js:3:5), at a/b.js:3:5
        (
            rf"^\s*at (?:(?:async )?(?P<function>[\w$.<>\[\] ]+?) \()?"
            rf"(?:file://|webpack:///)?(?P<path>{_PATH}\.[cm]?[jt]sx?):(?P<line>\d+):\d+"
        ),
        # Java, Kotlin, Scala: at a.b.Store.read(Store.java:12)
        (
            r"^\s*at (?P<module>[\w.$/@]+)\.(?P<function>[\w$<>]+)"
            r"\((?P<path>[\w$]+\.(?:java|kt|kts|scala|groovy)):(?P<line>\d+)\)"
        ),
        # C#: at App.Store.Read(String key) in /a/Store.cs:line 12
        rf"^\s*at [\w.`<>\[\],+ ]*?(?P<function>[\w`]+)\([^)]*\) in (?P<path>{_PATH}\.\w+):line (?P<line>\d+)",
        # Go: \t/a/store.go:12 +0x1d
        rf"^\s+(?P<path>{_PATH}\.go):(?P<line>\d+)(?: \+0x[0-9a-f]+)?",
        # Rust: at src/store.rs:12:5, panicked at src/store.rs:12:5, --> src/store.rs:12:5
        rf"(?:at|-->) '?(?P<path>{_PATH}\.rs):(?P<line>\d+):\d+",
        # Ruby: a/b.rb:12:in `read'
        rf"(?<![\w./])(?P<path>{_PATH}\.(?:rb|rake|erb)):(?P<line>\d+):in [`'](?P<function>[^'\n]+)'",
        # PHP: #0 /a/b.php(12): App\Store->read(), and in /a/b.php:12, in /a/b.php on line 12
        rf"^\s*#\d+ (?P<path>{_PATH}\.php)\((?P<line>\d+)\): (?P<function>[\w\\:>-]+)?",
        rf"in (?P<path>{_PATH}\.php)(?::| on line )(?P<line>\d+)",
        # gdb, sanitisers: #1 0x… in f (args) a/b.c:12
        (
            rf"^\s*#\d+\s+(?:0x[0-9a-f]+ in )?(?P<function>[\w:~<>]+)\s*(?:\([^)\n]*\))?"
            rf"\s+(?:at )?(?P<path>{_PATH}\.\w+):(?P<line>\d+)"
        ),
        # Compilers, linters and test runners: a/b.c:12:5: error, a/b.go:12: message
        rf"^\s*(?P<path>{_PATH}\.\w{{1,10}}):(?P<line>\d+)(?::\d+)?:",
        # TypeScript's compiler, MSBuild: a/b.ts(12,5): error
        rf"^\s*(?P<path>{_PATH}\.\w{{1,10}})\((?P<line>\d+),\d+\): ",
        # Elixir, Swift, Dart and others that say path:line somewhere in a line that is about a place
        rf"(?:\bat\b|\bin\b|\bfrom\b)\s+\(?(?P<path>{_PATH}\.\w{{1,10}}):(?P<line>\d+)",
    )
)
_LINE = re.compile(
    r"^\s*(?:Traceback \(most recent call last\)|File \"[^\"]+\", line \d+|at [\w$.<>/@\[\] ]+\(|"
    r"at .*:\d+(?::\d+)?\)?$|"
    r"#\d+ +\S+.*[:(]\d+\)?|goroutine \d+ \[|panic:|thread '.*' panicked|Caused by:|"
    r"Exception in thread|from .*:\d+:in )|"
    r"^\s*[\w./\\-]+\.\w{1,6}:\d+:(?:\d+:|in |\s)|^\s+/\S+\.go:\d+|^E\s{2,}\S|"
    r"^[\w.]*(?:Error|Exception|Warning)\b: "
)
FRAME_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Frame:
    """``path`` is as it stands there, with what the module says where that names the folder; ``line`` 0: none."""

    path: str
    line: int
    function: str


def is_frame_line(line: str) -> bool:
    """A line of a stack trace."""
    return _LINE.search(line) is not None


def frames_of(text: str) -> tuple[Frame, ...]:
    """The places that stack traces and compilers' messages in the text name, each once, in no promised order."""
    found: dict[tuple[str, int], Frame] = {}
    lines = [line for line in text.split("\n") if len(line) <= 2_000 and any(c.isdigit() for c in line)]
    text = "\n".join(lines)
    for pattern in _FRAMES:
        for match in pattern.finditer(text):
            groups = match.groupdict()
            path, line = groups["path"].replace("\\", "/"), int(groups["line"][:9])
            if module := groups.get("module"):
                folder = module.rsplit("/", 1)[-1].replace("$", ".").split(".")[:-1]
                path = "/".join([*folder, path])
            found.setdefault((path, line), Frame(path, line, (groups.get("function") or "").strip()))
            if len(found) >= FRAME_LIMIT:
                return tuple(found.values())
    return tuple(found.values())
