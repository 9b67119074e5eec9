"""Which rules fit a part of a call."""

from __future__ import annotations

import datetime
import fnmatch
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from apps.agents.tools.policy_parts import Part
from apps.agents.tools.policy_paths import WorktreePaths
from apps.agents.types import PolicyEffect, PolicyRuleData, Risk
from apps.core.shell_parse_words import Word, words_set
from apps.projects.sandbox.path_pattern import path_matcher
from apps.projects.workspace import WorkspaceError

#: Programs that take their words for text, and open none of them.
_NO_FILES = words_set("echo printf true false : exit return set shift trap sleep seq kill")
#: Programs whose first word is what they look for.
_PATTERN_FIRST = words_set("grep egrep fgrep rg fd fdfind ag ack")
#: Links of the kernel's that lead to where a process is, or is at home.
_BY_PROCESS = re.compile(r"/proc/(self|thread-self|\d+)/(task/\d+/)?(cwd|root|fd)\b")
#: Options by which the names of files come from elsewhere.
_NAMES_FROM = re.compile(r"--files0?-f")
#: What a rule by path can let through in a command: more than that, a path doesn't tell.
_TOLD_BY_PATH = frozenset({Risk.READ, Risk.WRITE, Risk.DELETE})


def rules_fitting(
    rules: Sequence[PolicyRuleData], *, tool: str, part: Part, paths: WorktreePaths, now: datetime.datetime
) -> Iterator[PolicyRuleData]:
    """The rules that hold now and fit this part of a call.

    A rule that restricts fits whatever may be meant; one that allows fits only what is certainly meant.
    """
    for rule in rules:
        if rule.expires_at is not None and rule.expires_at <= now:
            continue
        fits = _allowed if rule.effect == PolicyEffect.ALLOW else _restricted
        if fits(rule, tool, part, paths):
            yield rule


def _restricted(rule: PolicyRuleData, tool: str, part: Part, paths: WorktreePaths) -> bool:
    if rule.tool and not fnmatch.fnmatchcase(tool.casefold(), rule.tool.casefold()):
        return False
    if rule.risk and rule.risk not in part.risks and Risk.UNKNOWN not in part.risks:
        return False
    if rule.command:
        if not part.is_command:
            return False
        if Risk.UNKNOWN not in part.risks and not any(
            text_fits(rule.command.casefold(), text.casefold()) for text in (part.text, *part.variants)
        ):
            return False
    return not rule.path or _path_may_fit(rule.path, part, paths)


def _allowed(rule: PolicyRuleData, tool: str, part: Part, paths: WorktreePaths) -> bool:
    # What can't be read is let through by a rule that says so alone.
    if Risk.UNKNOWN in part.risks and rule.risk != Risk.UNKNOWN:
        return False
    if rule.tool and not fnmatch.fnmatchcase(tool, rule.tool):
        return False
    if rule.risk and not part.risks <= {Risk.READ, Risk.TALK, rule.risk}:
        return False
    if rule.command and not (part.is_command and text_fits(rule.command, part.text)):
        return False
    return not rule.path or _path_surely_fits(rule.path, part, paths)


def text_fits(pattern: str, text: str) -> bool:
    """``*`` stands for any text and ``?`` for any character; a ``*`` behind a blank also for no words at all."""
    return bool(_text_matcher(pattern.strip())(text))


@lru_cache(maxsize=512)
def _text_matcher(pattern: str) -> Callable[[str], re.Match[str] | None]:
    expression = "".join(
        ".*" if each == "*" else "." if each == "?" else re.escape(each) for each in re.sub(r"\*+", "*", pattern)
    )
    if pattern.endswith(" *"):
        expression = expression[: -len(re.escape(" ") + ".*")] + "(?: .*)?"
    return re.compile(expression, re.DOTALL).fullmatch


@lru_cache(maxsize=512)
def _path_matcher(pattern: str) -> Callable[[str], bool]:
    try:
        return path_matcher(pattern.removeprefix("./").lstrip("/"))
    except WorkspaceError:
        # A rule whose pattern can't be read restricts everything; as it is checked when it is made, there is none.
        return lambda path: True


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def path_fits(pattern: str, path: str, *, exactly: bool) -> bool:
    """Whether the path, or a folder that it is in, fits; with ``exactly`` by case and form of its characters."""
    if pattern.startswith("/") and not path.startswith("/"):
        path = posixpath.join("/workspace", path)
    if not pattern.startswith("/") and path.startswith("/") and "/" in pattern.rstrip("/"):
        # A path within the repository is meant, and this is none; or it is, by way of a process's folders.
        return not exactly and bool(_BY_PROCESS.match(path))
    if not exactly:
        pattern, path = _fold(pattern), _fold(path)
    matches = _path_matcher(pattern)
    plain = path.lstrip("/")
    folders = [plain]
    while plain := posixpath.dirname(plain):
        folders.append(plain)
    return any(matches(folder) for folder in folders) or (
        pattern.endswith("/") and any(matches(f"{folder}/x") for folder in folders)
    )


def _path_may_fit(pattern: str, part: Part, paths: WorktreePaths) -> bool:
    if part.is_command and part.text.partition(" ")[0] in _NO_FILES:
        return False

    def fits(path: str) -> bool:
        return path_fits(pattern, path, exactly=False)

    if part.is_command and any(_NAMES_FROM.match(word.text) for word in part.words):
        return True
    for word in _named(part):
        if word.dynamic or None in part.folders:
            return True
        for text in _spellings(word.text) if part.is_command else [word.text]:
            for folder in part.folders:
                assert folder is not None
                found = paths.globbed(text, folder=folder) if word.globbed else paths.forms(text, folder=folder)
                if found is None or any(map(fits, found)):
                    return True
                if part.recursive and any(paths.holds(path, fits) for path in found):
                    return True
    # Where none of the words is a path that is there, they may take the folder that they are in.
    operands = [word.text for word in part.words if not word.text.startswith("-")]
    if part.text.partition(" ")[0].rpartition("/")[2] in _PATTERN_FIRST:
        operands = operands[1:]
    bare = part.is_command and part.recursive and not any(paths.exists(text, part.folders) for text in operands)
    return bare and any(folder is None or paths.holds(folder, fits) for folder in part.folders)


def _path_surely_fits(pattern: str, part: Part, paths: WorktreePaths) -> bool:
    named = list(_named(part))
    if not named or not all(word.plain for word in named) or None in part.folders:
        return False
    if part.is_command and not part.risks <= _TOLD_BY_PATH:
        return False
    return all(
        path_fits(pattern, path, exactly=True)
        for word in named
        for folder in part.folders
        for path in paths.forms(word.text, folder=folder or ".")
    )


def _named(part: Part) -> Iterator[Word]:
    """The words that may name a file."""
    for word in part.words:
        if not part.is_command or not re.fullmatch(r"-{1,2}[\w-]*", word.text) or re.match(r"-\w\S", word.text):
            yield word


def _spellings(text: str) -> set[str]:
    """The ways in which a word may hold a path: `--file=PATH`, `-fPATH`, `of=PATH`, `@PATH`, `REVISION:PATH`."""
    found = {text}
    if re.match(r"-\w.", text):
        found.add(text[2:])
    for piece in re.split(r"[=:,@]", text)[1:]:
        found.add(piece)
    return {piece for piece in found if piece}
