"""What a command line does: its commands, what their wrappers run, and where they write.

Everything that is found counts, wherever it stands: a command in a function that is never called, in a loop that never
runs, behind ``false &&``. What can't be told is ``unknown``, the worst.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from apps.agents.tools.base import Risk
from apps.agents.tools.policy_git import git_judge
from apps.agents.tools.policy_parts import Part, words_text
from apps.agents.tools.policy_programs import FIND_RUNS, RUNNERS, program_judge, python_module
from apps.agents.tools.policy_wrappers import wrapper_risks
from apps.core.shell_parse import Redirect, Script, SimpleCommand, script_read
from apps.core.shell_parse_words import Word, words_set
from apps.core.shell_wrappers import WRAPPERS, Wrapper, wrapper_open
from apps.projects.workspace import SANDBOX_ENVIRONMENT, SANDBOX_WORKSPACE

#: Command lines within command lines that are looked into.
LEVELS = 8
#: Parts of one call that are told apart.
PARTS = 1000

_PROGRAM_FOLDERS = frozenset({"/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"}) | {
    f"{SANDBOX_ENVIRONMENT}/bin"
}
_SHELLS = words_set("sh bash dash ash rbash")
_OTHER_SHELLS = words_set("zsh ksh mksh fish csh tcsh elvish nu xonsh")
_QUIET_TARGETS = re.compile(r"/dev/(null|stdout|stderr|tty|zero|fd/\d+)|\d+|-|\d+-")
_NETWORK_TARGET = re.compile(r"/dev/(tcp|udp)/")
#: Variables that say no more than how something is shown.
_HARMLESS_VARIABLES = re.compile(
    r"LANG|LANGUAGE|LC_\w+|TZ|TERM|COLUMNS|LINES|NO_COLOR|FORCE_COLOR|CLICOLOR(_FORCE)?|CI|DEBIAN_FRONTEND"
    r"|PYTHONDONTWRITEBYTECODE|PYTHONUNBUFFERED|PYTHONHASHSEED|PYTHONIOENCODING|PYTHONUTF8|GIT_TERMINAL_PROMPT"
    r"|GIT_OPTIONAL_LOCKS|GIT_PAGER=cat|PAGER=cat|RUST_BACKTRACE|RUST_LOG|CARGO_TERM_COLOR"
)
#: Variables by which programs are told what to run, load or believe.
_STEERING_VARIABLES = re.compile(
    r"PATH|IFS|HOME|ENV|BASH\w*|SHELL\w*|PS[0-9]|PROMPT_COMMAND|CDPATH|GLOBIGNORE|FIGNORE|HIST\w*|EXECIGNORE|POSIXLY\w*"
    r"|LD_\w+|DYLD_\w+|GCONV_PATH|GETCONF_DIR|HOSTALIASES|LOCPATH|MALLOC_\w+|NIS_PATH|NLSPATH|RESOLV\w*|RES_OPTIONS|TMPDIR"
    r"|\w*PAGER\w*|\w*EDITOR|VISUAL|BROWSER|LESS\w*|MAN\w*|GIT_\w+|SSH_\w+|XDG_\w+|\w*_proxy|\w*_PROXY|RIPGREP_\w+"
    r"|JQ_\w+|GREP_\w+|TAR_OPTIONS|ZIPOPT|UNZIP|RSYNC_\w+|AWK\w*|GAWK\w*|FD_\w+|CLASSPATH|_JAVA_OPTIONS|JAVA_\w+"
    r"|PYTHON\w*|PERL\w*|RUBY\w*|NODE_\w+|NPM_\w+|npm_\w+|PIP_\w+|UV_\w+|LUA_\w+|PHP\w*|MAKEFLAGS|RUSTC\w*|CARGO_\w+|CC|CXX"
)
#: Options of some by which they work in another folder.
_CHDIR = re.compile(r"-[A-Za-z]*[CDR]|--(ch|cd|git-d|work)")
#: The same with the folder in the same word.
_CHDIR_VALUE = re.compile(r"(?:-[A-Za-z]*?[CDR]|--(?:chdir|cd|directory)=)(.+)", re.DOTALL)
#: Folders of one command line that are told apart.
FOLDERS = 40
#: Programs with a command line in their words.
_NESTED = words_set("eval trap sh bash dash ash rbash")
_GOES = re.compile(r"\b(cd|pushd|popd|chdir|directory)\b|(^|\s)-[A-Za-z]*[CD]")
#: Programs that go into folders.
_RECURSIVE = re.compile(r"rm|cp|mv|tar|find|rg|fd|fdfind|tree|du|zip|rsync|chmod|chown|chgrp|ls|ln")
#: What git shows of files that nobody has named.
_GIT_SHOWS = words_set(
    "show grep archive diff whatchanged range-diff format-patch diff-tree diff-index diff-files fast-export bundle -p"
    # And what these do to a folder, they do to all that is in it.
    " restore clean rm mv"
)
_GIT_LISTS = words_set("log reflog stash")
#: Options by which it shows what has changed.
_GIT_PATCH = re.compile(r"-[A-Za-z]*[pucmUWL].*|--(pa|u|cc|di|remerge|bi|fu|word|color-w|ext|te).*", re.DOTALL)
_RECURSIVE_OPTION = re.compile(r"-[A-Za-z]*[rR]|--recursive|--dereference-recursive")


def command_assess(text: str, *, start: str = ".") -> tuple[Part, ...]:
    """The parts of a command line that starts in a folder; never raises and never empty."""
    try:
        parts = list(_script_assess(script_read(text), LEVELS, start=start, elsewhere=start != "."))
    except RecursionError:
        parts = [_unknown(text, "it is nested too deeply")]
    if len(parts) > PARTS:
        parts = parts[:PARTS] + [_unknown(text, f"it has more than {PARTS} parts")]
    return tuple(parts) or (Part(text=text.strip(), risks=frozenset({Risk.READ})),)


def _unknown(text: str, reason: str) -> Part:
    return Part(text=text.strip(), risks=frozenset({Risk.UNKNOWN}), reason=reason, words=(Word(text, dynamic=True),))


def _script_assess(script: Script, levels: int, *, start: str = ".", elsewhere: bool = False) -> Iterator[Part]:
    for problem in script.problems:
        yield _unknown("the whole command line", problem)
    folders, away = _folders(script.commands, start)
    elsewhere = elsewhere or away
    for name in script.variables:
        yield from _assigned(name, Word("", dynamic=True), exported=False)
    for name in script.functions:
        yield Part(f"{name}()", frozenset({Risk.EXECUTE}), "it defines a function")
    for redirect in script.redirects:
        if part := _redirect_assess(redirect):
            yield replace(part, folders=folders)
    for command in script.commands:
        for part in _command_assess(command, levels, elsewhere=elsewhere):
            yield replace(part, folders=folders)


def _folders(commands: Sequence[SimpleCommand], start: str) -> tuple[tuple[str | None, ...], bool]:
    """Where its commands may be at work, and whether that may be elsewhere than in the repository's root."""
    folders: list[str | None] = [start]
    for command in commands:
        names = [posixpath.basename(word.text) for word in command.words]
        if _NESTED & set(names) and any(_GOES.search(word.text) for word in command.words):
            # What it runs is a command line of its own, which goes somewhere.
            folders.append(None)
        if command.stdin is not None and _GOES.search(command.stdin.text):
            folders.append(None)
        goes = {"cd", "pushd", "popd"} & set(names)
        if not goes and not ({"env", "sudo", "make", "tar"} & set(names) and any(map(_CHDIR.match, names))):
            continue
        targets = [
            word
            for word in command.words[1:]
            if not word.text.startswith("-") or not word.plain or (not goes and _CHDIR_VALUE.match(word.text))
        ]
        for target in targets or [Word("~")]:
            option = _CHDIR_VALUE.match(target.text)
            text = option[1] if option else target.text
            if not target.plain or text.startswith("~"):
                folders.append(None)
            else:
                # One after the other: each may stand behind each.
                folders += [posixpath.join(folder, text) for folder in folders if folder is not None]
            folders = list(dict.fromkeys(folders))
            if len(folders) > FOLDERS:
                # More than are told apart: any.
                return (start, None), True
    unique = tuple(dict.fromkeys(folders))
    here = all(folder is not None and posixpath.normpath(posixpath.join(SANDBOX_WORKSPACE, folder)) == SANDBOX_WORKSPACE
               for folder in unique)  # fmt: skip
    return unique, not here


def _redirect_assess(redirect: Redirect) -> Part | None:
    target = redirect.target
    text = f"{redirect.operator} {words_text([target])}"
    if not target.plain:
        if not redirect.writes and not target.dynamic:
            return None
        if redirect.operator.startswith(("<<", "<(")) or target.source.startswith(("<(", ">(")):
            return None
        return Part(text, frozenset({Risk.UNKNOWN}), "where it leads can't be told", words=(target,))
    if _NETWORK_TARGET.match(target.text):
        return Part(text, frozenset({Risk.NETWORK}))
    duplicates = redirect.operator.endswith("&") and redirect.operator != "&"
    if _QUIET_TARGETS.fullmatch(target.text) and (target.text.startswith("/") or duplicates):
        return None
    if not redirect.writes:
        return Part(text, frozenset({Risk.READ}), words=(target,))
    risks, reason = _written({Risk.WRITE}, (target,), "")
    return Part(text, frozenset(risks), reason, words=(target,))


def _written(risks: set[Risk], words: Iterable[Word], reason: str) -> tuple[set[Risk], str]:
    """A write into git's own folder is more than a write."""
    if risks & {Risk.WRITE, Risk.DELETE}:
        for word in words:
            if re.search(r"(^|[/=])\.git(/|$)", word.text):
                return risks | {Risk.GIT_HISTORY}, "it changes git's own files"
    return risks, reason


def _assigned(name: str, value: Word, *, exported: bool) -> Iterator[Part]:
    text = f"{name}={words_text([value])}"
    if _HARMLESS_VARIABLES.fullmatch(name) or (value.plain and _HARMLESS_VARIABLES.fullmatch(text)):
        risks, reason = {Risk.READ}, ""
    elif _STEERING_VARIABLES.fullmatch(name) or not re.fullmatch(r"\w+", name, re.ASCII):
        risks, reason = {Risk.UNKNOWN}, "the variable says what is run, or how"
    elif exported or name.isupper():
        risks, reason = {Risk.EXECUTE}, "the variable may be meant for a program"
    else:
        risks, reason = {Risk.READ}, ""
    yield Part(text, frozenset(risks), reason)


#: What these name is no variable of the environment, unless it was one before.
_DECLARE_ONLY = frozenset({"declare", "typeset", "local", "readonly"})


def _command_assess(command: SimpleCommand, levels: int, *, elsewhere: bool) -> Iterator[Part]:
    words = [word.text for word in command.words]
    only_named = (
        words[:1] and words[0] in _DECLARE_ONLY and not any(word.startswith("-") and "x" in word for word in words)
    )
    for name, value in command.assignments:
        yield from _assigned(name, value, exported=bool(words) and not only_named)
    if command.words:
        yield from _words_assess(command.words, command.stdin, levels, elsewhere=elsewhere)


def _words_assess(words: tuple[Word, ...], stdin: Word | None, levels: int, *, elsewhere: bool) -> Iterator[Part]:
    """A program with its words, and what it runs in turn."""
    text = words_text(words)
    program = words[0]
    if levels <= 0:
        yield _unknown(text, "it is wrapped too often to look into")
        return
    if not program.plain or not program.text:
        yield _unknown(text, "which program it is can't be told")
        return
    if not program.text.isascii():
        yield _unknown(text, "the program's name has characters that look like others")
        return
    folder, name = posixpath.split(program.text)
    if folder and folder not in _PROGRAM_FOLDERS:
        # Its name is believed only as far as that makes it worse.
        yield Part(text, frozenset({Risk.EXECUTE}), "a program that isn't the system's", words=words)
    variants = (
        " ".join([name, *(word.source or word.text for word in words[1:])]),
        words_text((Word(name), *words[1:])),
    )
    if name in _SHELLS:
        yield from _shell_assess(words, stdin, levels, variants, elsewhere=elsewhere)
    elif name in _OTHER_SHELLS:
        asked = len(words) == 2 and words[1].text == "--version"
        yield Part(text, frozenset({Risk.READ if asked else Risk.UNKNOWN}), "" if asked else f"{name} isn't read here",
                   variants, words[1:])  # fmt: skip
    elif name in WRAPPERS:
        yield from _wrapper_assess(name, WRAPPERS[name], words, stdin, levels, variants, elsewhere=elsewhere)
    elif name == "eval":
        yield from _eval_assess(words, levels, elsewhere=elsewhere)
    elif name == "trap":
        yield from _trap_assess(words, levels, elsewhere=elsewhere)
    else:
        yield from _program_assess(name, words, levels, variants, elsewhere=elsewhere)


def _program_assess(
    name: str, words: tuple[Word, ...], levels: int, variants: tuple[str, ...], *, elsewhere: bool
) -> Iterator[Part]:
    if name == "git":
        (risks, reason), more = git_judge(words, elsewhere=elsewhere)
        variants += more
    else:
        risks, reason = program_judge(name, words)
    if name == "find":
        yield from _find_assess(words, levels, elsewhere=elsewhere)
    if name in ("export", "declare", "typeset", "local", "readonly", "read"):
        for word in words[1:]:
            if not word.text.startswith("-"):
                yield from _assigned(word.text.partition("=")[0], Word("", dynamic=True), exported=name == "export")
    if name.startswith(("python", "pypy")) and (module := python_module(words[1:])):
        variants += (words_text(module),)
    if name in RUNNERS:
        operands = [position for position, word in enumerate(words) if position and not word.text.startswith("-")]
        if len(operands) > 1 and words[operands[0]].text in ("run", "exec", "x", "dlx", "tool"):
            yield from _words_assess(words[operands[1] :], None, levels - 1, elsewhere=elsewhere)
    if name in ("source", ".") and any(not word.plain for word in words[1:2]):
        risks, reason = {Risk.UNKNOWN}, "what it runs can't be told"
    risks, reason = _written(set(risks), words[1:], reason)
    texts = {word.text for word in words[1:]} if name == "git" else set()
    shows = bool(texts & _GIT_SHOWS) or bool(texts & _GIT_LISTS and any(map(_GIT_PATCH.fullmatch, texts)))
    recursive = (
        shows or bool(_RECURSIVE.fullmatch(name)) or any(_RECURSIVE_OPTION.match(word.text) for word in words[1:])
    )
    yield Part(words_text(words), frozenset(risks), reason, variants, words[1:], recursive=recursive)


def _find_assess(words: tuple[Word, ...], levels: int, *, elsewhere: bool) -> Iterator[Part]:
    """What find runs for each file: the words up to ``;`` or ``+``."""
    position = 1
    while position < len(words):
        if words[position].text not in FIND_RUNS:
            position += 1
            continue
        runs = []
        in_folder = words[position].text in ("-execdir", "-okdir")
        position += 1
        while position < len(words) and words[position].text not in (";", "+"):
            word = words[position]
            # A file's name takes its place: it may be anything, but no option of a program that is named.
            holds = "{}" in word.text
            runs.append(
                replace(word, dynamic=True, text=word.text.replace("{}", "./{}"), source=word.text) if holds else word
            )
            position += 1
        if runs:
            yield from _words_assess(tuple(runs), None, levels - 1, elsewhere=elsewhere or in_folder)
        else:
            yield _unknown(words_text(words), "what find runs can't be told")


def _wrapper_assess(
    name: str,
    wrapper: Wrapper,
    words: tuple[Word, ...],
    stdin: Word | None,
    levels: int,
    variants: tuple[str, ...],
    *,
    elsewhere: bool,
) -> Iterator[Part]:
    text = words_text(words)
    inner = wrapper_open(name, wrapper, words[1:])
    if inner.problem:
        yield Part(text, frozenset({Risk.UNKNOWN}), inner.problem, variants, words[1:])
        return
    reads = name == "xargs" and any(re.match(r"-[A-Za-z0-9]*a|--a", word.text) for word in words[1:])
    risks = wrapper_risks(name)
    yield Part(text, risks.own, "", variants, words[1:] if reads or not risks.own <= {Risk.READ} else ())
    for assigned, value in inner.assignments:
        yield from _assigned(assigned, value, exported=True)
    for script in inner.scripts:
        yield from _text_assess(script, levels, elsewhere=elsewhere)
    if inner.asks:
        return
    run = inner.words
    if not run:
        if not inner.scripts and not risks.alone <= {Risk.READ}:
            yield Part(text, risks.alone, f"{name} starts a shell", variants)
        return
    if wrapper.appends:
        run = (*run, Word("{}", dynamic=True, splits=True, source="{}"))
    if wrapper.by_shell:
        yield from _text_assess(_joined(run), levels, elsewhere=elsewhere)
    yield from _words_assess(run, stdin, levels - 1, elsewhere=elsewhere)


def _shell_assess(
    words: tuple[Word, ...], stdin: Word | None, levels: int, variants: tuple[str, ...], *, elsewhere: bool
) -> Iterator[Part]:
    """``sh -c TEXT``, ``sh FILE``, or what is fed to it."""
    text = words_text(words)
    rest = list(words[1:])
    wants_script = reads_stdin = False
    while rest:
        word = rest[0]
        if not word.plain:
            yield Part(text, frozenset({Risk.UNKNOWN}), "what it runs can't be told", variants, words[1:])
            return
        if word.text == "--version" and len(words) == 2:
            yield Part(text, frozenset({Risk.READ}), "", variants)
            return
        if word.text in ("--", "-"):
            rest.pop(0)
            break
        if not re.fullmatch(r"[-+][A-Za-z]+", word.text):
            if word.text.startswith("-") and word.text not in ("--norc", "--noprofile", "--posix", "--login"):
                yield Part(text, frozenset({Risk.UNKNOWN}), f"{word.text} has it run a file", variants, words[1:])
                return
            if not word.text.startswith("-"):
                break
            rest.pop(0)
            continue
        rest.pop(0)
        wants_script = wants_script or (word.text.startswith("-") and "c" in word.text)
        reads_stdin = reads_stdin or "s" in word.text
        if word.text[-1] in "oO":
            if not rest or not rest[0].plain or rest[0].text not in ("pipefail", "errexit", "nounset", "xtrace"):
                yield Part(text, frozenset({Risk.UNKNOWN}), "it changes how the shell works", variants, words[1:])
                return
            rest.pop(0)
    if wants_script:
        yield Part(text, frozenset({Risk.READ}), "", variants)
        if rest:
            yield from _text_assess(rest[0], levels, elsewhere=elsewhere)
        else:
            yield _unknown(text, "what it runs can't be told")
    elif rest and not reads_stdin:
        yield Part(text, frozenset({Risk.EXECUTE}), "it runs a file of commands", variants, words[1:])
    elif stdin is not None:
        yield Part(text, frozenset({Risk.READ}), "", variants)
        yield from _text_assess(stdin, levels, elsewhere=elsewhere)
    else:
        yield Part(text, frozenset({Risk.UNKNOWN}), "it runs what comes to it on the way", variants, words[1:])


def _eval_assess(words: tuple[Word, ...], levels: int, *, elsewhere: bool) -> Iterator[Part]:
    yield Part(words_text(words), frozenset({Risk.READ}))
    if len(words) > 1:
        yield from _text_assess(_joined(words[1:]), levels, elsewhere=elsewhere)


def _trap_assess(words: tuple[Word, ...], levels: int, *, elsewhere: bool) -> Iterator[Part]:
    yield Part(words_text(words), frozenset({Risk.READ}))
    if len(words) > 2 or any(not word.plain for word in words):
        rest = words[2:] if words[1].text == "--" else words[1:]
        if rest and rest[0].text not in ("-", "-l", "-p"):
            yield from _text_assess(rest[0], levels, elsewhere=elsewhere)


def _joined(words: Sequence[Word]) -> Word:
    return Word(
        " ".join(word.text for word in words),
        dynamic=any(word.dynamic for word in words),
        globbed=any(word.globbed for word in words),
        source=" ".join(word.source or word.text for word in words),
    )


def _text_assess(word: Word, levels: int, *, elsewhere: bool) -> Iterator[Part]:
    """A word that a shell reads as a command line of its own."""
    if not word.plain:
        yield _unknown(word.source or word.text, "which command it is can't be told")
    elif levels <= 1:
        yield _unknown(word.text, "it is wrapped too often to look into")
    else:
        yield from _script_assess(script_read(word.text), levels - 1, elsewhere=elsewhere)
