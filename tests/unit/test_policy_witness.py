"""What bash really runs of a line is among the parts that were read of it.

The line is run by bash with nothing on its PATH but programs that write down how they were called. Whatever they wrote
has to be known beforehand, or the line has to be unknown.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from apps.agents.tools.policy_commands import command_assess
from apps.agents.types import Risk
from apps.core.shell_parse_words import words_set

#: Programs there are: each writes its name to a file that the line doesn't know.
NAMES = ("rm", "git", "ls", "cat", "aa", "tee", "sudo")


@pytest.fixture(scope="module")
def stage() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="archon-test-witness-") as folder:
        root = Path(folder)
        (root / "bin").mkdir()
        for name in NAMES:
            program = root / "bin" / name
            program.write_text(f'#!/bin/sh\necho {name} >> "$WITNESS"\n')
            program.chmod(0o755)
        yield root


def ran(stage: Path, line: str) -> set[str]:
    """The programs that bash started."""
    bash = shutil.which("bash")
    assert bash is not None
    # One for each line: what an earlier one left running writes to its own.
    witness = stage / f"witness-{uuid.uuid4().hex}"
    work = stage / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        subprocess.run(
            [bash, "-c", line],
            cwd=work,
            env={"PATH": str(stage / "bin"), "LANG": "C.UTF-8", "WITNESS": str(witness)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=5,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pass
    return set(witness.read_text().split()) if witness.exists() else set()


def known(line: str) -> set[str] | None:
    """The programs that were read; None where the line is unknown."""
    parts = command_assess(line)
    if any(Risk.UNKNOWN in part.risks for part in parts):
        return None
    found = set()
    for part in parts:
        for text in (part.text, *part.variants):
            found |= {word.rpartition("/")[2].strip("'\"") for word in text.split()[:1]}
    return found


def check(stage: Path, line: str) -> None:
    read = known(line)
    if read is not None:
        assert ran(stage, line) <= read, (line, read)


_NAME = st.sampled_from(NAMES)
_ARGUMENT = st.sampled_from(
    ["x", "-f", "'a b'", '"$y"', "*.py", "a\\ b", "{a,b}", "~", "#c", "x#", "$((1+1))", "''", "!", "[", "]"]
)
_SIMPLE = st.builds(lambda name, rest: " ".join([name, *rest]), _NAME, st.lists(_ARGUMENT, max_size=3))


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.tuples(inner, inner)
    return st.one_of(
        st.builds(lambda both, sign: f"{both[0]}{sign}{both[1]}", pairs,
                  st.sampled_from(["; ", " && ", " || ", " | ", " & ", "\n", " |& ", ";", "&&", "|"])),
        st.builds(lambda text: f"({text})", inner),
        st.builds(lambda text: f"{{ {text}; }}", inner),
        st.builds(lambda text: f"! {text}", inner),
        st.builds(lambda text: f"aa $({text})", inner),
        st.builds(lambda text: f"aa `{text}`", inner),
        st.builds(lambda text: f'aa "x $({text}) y"', inner),
        st.builds(lambda text: f"aa <({text})", inner),
        st.builds(lambda both: f"if {both[0]}; then {both[1]}; else ls; fi", pairs),
        st.builds(lambda text: f"for i in 1 2; do {text}; done", inner),
        st.builds(lambda text: f"while {text}; do break; done", inner),
        st.builds(lambda text: f"case x in x) {text};; *) ls;; esac", inner),
        st.builds(lambda text: f"f() {{ {text}; }}; f", inner),
        st.builds(lambda text: f"eval '{text}'" if "'" not in text else text, inner),
        st.builds(lambda text: f"{text} > out", inner),
        st.builds(lambda text: f"2>/dev/null {text}" if text[0].isalpha() else text, inner),
        st.builds(lambda text: f"x=1 {text}" if text[0].isalpha() else text, inner),
        st.builds(lambda text: f"{text} # rm y\nls", inner),
        st.builds(lambda text: f"cat <<E\nx\nE\n{text}", inner),
        st.builds(lambda text: f"cat <<'E' && {text}\n$(rm x) `git y`\nE\n", inner),
        st.builds(lambda text: f"cat <<E\n$({text})\nE\n", inner),
        st.builds(lambda text: f"cat <<< \"$({text})\"", inner),
        st.builds(lambda text: f"x=${{y:-$({text})}}", inner),
        st.builds(lambda text: f"x=($({text})); {text}", inner),
        st.builds(lambda text: f"[[ -n $({text}) ]]", inner),
        st.builds(lambda text: f"exec {text}" if text[0].isalpha() else text, inner),
        st.builds(lambda text: f"command {text}" if text[0].isalpha() else text, inner),
        st.builds(lambda text: f"trap '{text}' EXIT" if "'" not in text else text, inner),
    )  # fmt: skip


_LINES = st.recursive(_SIMPLE, _compound, max_leaves=5)
#: Pieces put together without any grammar, as somebody would who looks for what the reader and bash see differently.
_TOKENS = words_set(
    r"""; | & ( ) $( ` ' " \ # <<E << > < x = $ ${ } (( )) ! f() <( 2>&1 &> $' \n <<< {a,b} ~ - :- [[ ]] if case in"""
    r""" esac ;; then fi for do done *) i {"""
)
_PIECES = st.lists(
    st.sampled_from([*NAMES, *sorted(_TOKENS), " ", " ", "\n", "\t", "\nE\n", "\\\n", "; ", "{ ", "; }", " ]]"]),
    max_size=14,
).map("".join)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(line=_LINES)
def test_what_lines_of_a_grammar_run_was_read(stage: Path, line: str) -> None:
    check(stage, line)


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(line=_PIECES)
@example("aa>x rm y")
@example("aa <<E;rm x\nE\n")
@example("aa <<E\nE\nrm x")
@example("aa <<'E'\nrm x\nE\nrm y")
@example("aa#x;rm y")
@example("aa $'\\'' rm;rm x")
@example("aa \\\nrm;rm x")
@example("case x in x) rm x;; esac")
@example("f()rm x")
@example("f() { rm x; }; f")
@example("[[ x ]]&&rm y")
@example("aa<(rm x)")
@example("aa ${x:-`rm y`}")
@example("aa ${x:-'$(rm y)'}")
@example('aa "${x:-"$(rm y)"}"')
@example("aa \"'$(rm x)'\"")
@example("{ aa; }>x;rm y")
@example("if aa\nthen rm x\nfi")
@example("aa&rm x")
@example("aa\n\n#x\nrm y")
@example("aa <<-E\n\tx\n\tE\nrm y")
@example("aa <<E <<F\nx\nE\ny\nF\nrm x")
@example("x=$(rm y)")
@example("aa x=$(rm y)")
@example("aa {rm,x}")
@example("!rm x")
@example("coproc rm x")
@example("time rm x")
@example("time -p rm x")
@example("select i in a; do rm x; done <<< 1")
@example("until rm x; do :; done")
@example("((1)) && rm x")
@example("aa $[1]; rm x")
@example("rm\tx")
@example("e''val rm x")
@example("r''m x")
def test_what_any_line_runs_was_read(stage: Path, line: str) -> None:
    check(stage, line)
