"""What programs that run tests and scripts need of the files around them, by the words that they are given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from apps.agents.tools.policy_programs import python_module
from apps.core.shell_parse_words import Word, words_set


@dataclass(frozen=True)
class Wanted:
    """What a command can't do without.

    `program`: one that can be run. `path`: a file or folder, by any of the endings. `folder`: somewhere to go.
    `pattern`: a path that this is a part of. `module`: a module of Python, or something in it. `manifest`: any of the
    endings as a name, in the folder or above. `script`: one of package.json. `target`: something that make can make.
    `lone script`: one of the only package.json. `cargo target`: a test or an example of cargo, in the endings' first.
    """

    kind: Literal[
        "program", "path", "folder", "pattern", "module", "manifest", "script", "lone script", "target", "cargo target"
    ]
    name: str
    endings: tuple[str, ...] = ("",)


#: Programs whose options are known well enough to tell which words are operands: options that stand alone, by pattern.
#: Whatever else begins with a dash may take the next word as its value, which is then not looked at.
_ALONE = {
    "pytest": re.compile(
        r"-[qvxslh]+|-r\w+|-[nkmpoWc].+|--(lf|ff|nf|sw|last-failed|failed-first|exitfirst|verbose|quiet|co"
        r"|collect-only|no-header|no-summary|no-cov|strict-markers|strict-config|showlocals|runxfail|pdb)"
    ),
    "python": re.compile(r"-[bBdEiIOqsSuvxPR]+|-[WX].+"),
    "bash": re.compile(r"[-+][eufnxvhl]+"),
    "node": re.compile(r"--(test|test-only|no-warnings|enable-source-maps|trace-warnings|check)|-c"),
    "ruby": re.compile(r"-[wW]\d?|-I.+|-r.+"),
    "go": re.compile(r"-(v|race|short|cover|failfast|json|x|a|n|i|work|trimpath)"),
    "jest": re.compile(
        r"--(ci|coverage|verbose|silent|runInBand|bail|no-cache|passWithNoTests|watchAll|colors?)|-[ibw]"
    ),
    "mocha": re.compile(r"--(bail|exit|recursive|check-leaks|parallel|colors?)|-[bpcC]"),
    "rspec": re.compile(r"-[bcw]|--(color|no-color|fail-fast|backtrace)"),
    "unittest": re.compile(r"-[vqfcb]+|--(verbose|quiet|failfast|catch|buffer|locals)"),
    "manage": re.compile(r"--(keepdb|noinput|no-input|failfast|parallel|reverse|timing|force-color|no-color)"),
}  # fmt: skip
_TEST_NAME = re.compile(
    r"(?:^|/)(?:test_[^/]+|[^/]+[._-](?:test|tests|spec)|tests?)\.\w+$|(?:^|/)[^/]+(?:Test|Spec)\.\w+$"
)
_NODE_ENDINGS = ("", ".js", ".cjs", ".mjs", ".json", ".ts", "/index.js", "/package.json")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_PYTHON = re.compile(r"(?:python|pypy)(?:\d+(?:\.\d+)?)?")
_SHELLS = words_set("bash sh dash ksh zsh")


def operands(words: Sequence[Word], program: str) -> list[Word]:
    """The words that are neither options nor may be the value of one."""
    alone, may_be_value = _ALONE[program], False
    found: list[Word] = []
    rest = iter(words)
    for word in rest:
        if word.dynamic and word.splits:
            # It may be an option.
            may_be_value = True
        elif word.text == "--":
            return found + [each for each in rest if each.plain]
        elif word.text.startswith(("-", "+")) and len(word.text) > 1 and not may_be_value:
            may_be_value = not alone.fullmatch(word.text) and "=" not in word.text
        else:
            if not may_be_value:
                found.append(word)
            may_be_value = False
    return [word for word in found if word.plain]


def wanted_by(name: str, words: Sequence[Word]) -> Iterator[Wanted]:
    """What a program needs of the files, beside itself; ``words`` are those behind it."""
    if _PYTHON.fullmatch(name):
        yield from _python(words)
    elif name in _SHELLS:
        yield from _first_path(words, "bash")
    elif name in _BY_NAME:
        yield from _BY_NAME[name](words)


def _python(words: Sequence[Word]) -> Iterator[Wanted]:
    if module := python_module(words):
        yield from wanted_by(f"-m {module[0].text}" if module[0].plain else "", module[1:])
        return
    if any(re.fullmatch(r"-[A-Za-z]*c.*", word.text) for word in _options(words)):
        return
    found = operands(words, "python")
    if found and found[0].text != "-":
        yield Wanted("path", found[0].text)
        if found[0].text.endswith("manage.py") and len(found) > 1 and found[1].text == "test":
            behind = words[[word.text for word in words].index("test") + 1 :]
            yield from (
                Wanted("module", word.text) for word in operands(behind, "manage") if _MODULE.fullmatch(word.text)
            )


def _options(words: Sequence[Word]) -> Iterator[Word]:
    """Those in front of the first operand, as far as that can be told."""
    for word in words:
        if not word.text.startswith("-"):
            return
        yield word


def _first_path(words: Sequence[Word], program: str, endings: tuple[str, ...] = ("",)) -> Iterator[Wanted]:
    if any(re.fullmatch(r"-[A-Za-z]*[cs][A-Za-z]*", word.text) for word in _options(words)) and program == "bash":
        return
    found = operands(words, program)
    if found and found[0].text != "-":
        yield Wanted("path", found[0].text, endings)


def _pytest(words: Sequence[Word]) -> Iterator[Wanted]:
    if any(word.text == "--pyargs" for word in words):
        return
    for word in operands(words, "pytest"):
        path = re.split(r"::|\[", word.text, maxsplit=1)[0]
        if path and not path.startswith("@"):
            yield Wanted("path", path)


def _unittest(words: Sequence[Word]) -> Iterator[Wanted]:
    found = operands(words, "unittest")
    if found and found[0].text == "discover":
        return
    for word in found:
        if word.text.endswith(".py"):
            yield Wanted("path", word.text)
        elif _MODULE.fullmatch(word.text):
            yield Wanted("module", word.text)


def _coverage(words: Sequence[Word]) -> Iterator[Wanted]:
    if words and words[0].text == "run":
        # Its own options may take values, so that only a module is sure to be the one that is run.
        yield from wanted_by("python", words[1:]) if python_module(words[1:]) else ()


def _tests_alone(program: str) -> Callable[[Sequence[Word]], Iterator[Wanted]]:
    """Of a program whose operands may also be patterns or tags: those that look like a file of tests."""

    def wanted(words: Sequence[Word]) -> Iterator[Wanted]:
        for word in operands(words, program):
            path = re.sub(r"(:\d+)+$", "", word.text)
            if _TEST_NAME.search(path):
                yield Wanted("path", path)

    return wanted


def _jest(words: Sequence[Word]) -> Iterator[Wanted]:
    """Operands are patterns of paths: one that looks like a file of tests has to fit some path."""
    for word in operands(words, "jest"):
        if _TEST_NAME.search(word.text):
            yield Wanted("pattern", word.text.removeprefix("./"))


def _node(words: Sequence[Word]) -> Iterator[Wanted]:
    if any(word.text == "--test" for word in words):
        yield from (Wanted("path", word.text) for word in operands(words, "node"))
    else:
        yield from _first_path(words, "node", _NODE_ENDINGS)


def _ruby(words: Sequence[Word]) -> Iterator[Wanted]:
    return _first_path(words, "ruby")


def _go(words: Sequence[Word]) -> Iterator[Wanted]:
    if not words or words[0].text not in words_set("test build vet run"):
        return
    found = operands(words[1:], "go")
    if not any(word.text.endswith(".go") for word in found):
        yield Wanted("manifest", "go", ("go.mod", "go.work"))
    for word in found[:1] if words[0].text == "run" else found:
        if word.text.endswith(".go"):
            yield Wanted("path", word.text)
        elif word.text.startswith("./") and (folder := word.text.removesuffix("...").strip("/.")):
            yield Wanted("path", folder)


def _cargo(words: Sequence[Word]) -> Iterator[Wanted]:
    commands = words_set("test build check run clippy bench doc nextest fmt t b c r")
    if words and words[0].text in commands and not _has(words, "--manifest-path", "-C"):
        yield Wanted("manifest", "cargo", ("Cargo.toml",))
        until = next((place for place, word in enumerate(words) if word.text == "--"), len(words))
        for option, value in pairwise(words[1:until]):
            if option.text in ("--test", "--example") and value.plain and re.fullmatch(r"\w[\w-]*", value.text):
                yield Wanted("cargo target", value.text, (option.text.removeprefix("--"),))


def _package_runner(words: Sequence[Word]) -> Iterator[Wanted]:
    """Of pnpm, yarn and bun, which run programs by the same words: no program has a colon in its name."""
    named = words[1:] if words and words[0].text == "run" else words
    if not named or any(word.text.startswith("--if-present") for word in words):
        return
    if named[0].plain and re.fullmatch(r"\w[\w.-]*(?::[\w.-]+)+", named[0].text):
        yield Wanted("lone script", named[0].text)


def _npm(words: Sequence[Word]) -> Iterator[Wanted]:
    """Of npm alone: the others also run programs by these words."""
    texts = [word.text for word in words]
    if (
        not texts
        or not words[0].plain
        or _has(words, "--prefix", "-C", "-w", "-ws", "--workspace", "--if-present", "-g")
    ):
        return
    if texts[0] in ("run", "run-script", "test", "t", "tst", "ci"):
        yield Wanted("manifest", "npm", ("package.json",))
    if texts[0] in ("test", "t", "tst"):
        yield Wanted("script", "test")
    elif texts[0] in ("run", "run-script") and len(words) > 1 and words[1].plain and not texts[1].startswith("-"):
        yield Wanted("script", texts[1])


def _make(words: Sequence[Word]) -> Iterator[Wanted]:
    if all(word.plain and re.fullmatch(r"[\w.-]+", word.text) and word.text[0] not in "-." for word in words):
        for word in words or [Word("")]:
            yield Wanted("target", word.text)


def _maven(words: Sequence[Word]) -> Iterator[Wanted]:
    if words and not _has(words, "-f", "--file", "-v", "--version", "-h", "--help"):
        yield Wanted("manifest", "mvn", ("pom.xml",))


def _has(words: Sequence[Word], *options: str) -> bool:
    return any(not word.plain or word.text.startswith(options) for word in words)


_BY_NAME: dict[str, Callable[[Sequence[Word]], Iterator[Wanted]]] = {
    "pytest": _pytest,
    "py.test": _pytest,
    "-m pytest": _pytest,
    "-m unittest": _unittest,
    "-m coverage": _coverage,
    "coverage": _coverage,
    "node": _node,
    "nodejs": _node,
    "ruby": _ruby,
    "perl": _ruby,
    "jest": _jest,
    "vitest": _jest,
    "mocha": _tests_alone("mocha"),
    "rspec": _tests_alone("rspec"),
    "bats": _tests_alone("rspec"),
    "phpunit": _tests_alone("rspec"),
    "go": _go,
    "cargo": _cargo,
    "npm": _npm,
    "pnpm": _package_runner,
    "yarn": _package_runner,
    "bun": _package_runner,
    "make": _make,
    "mvn": _maven,
}
