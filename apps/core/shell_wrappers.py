"""Programs that run another one, named in their own words: where that one begins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from apps.core.shell_parse_words import Word


@dataclass(frozen=True)
class Wrapper:
    """How its words are read until the command begins."""

    #: Letters and names of options that stand alone.
    flags: str = ""
    #: Letters and names of options that take a value, in the same word or the next.
    values: str = ""
    #: Words of its own before the command.
    operands: int = 0
    #: `NAME=value` may stand before the command.
    assigns: bool = False
    #: What it adds to the command's words from elsewhere.
    appends: bool = False
    #: The command's words are put together and read by a shell.
    by_shell: bool = False
    #: By letter or name, an option whose value is a command line.
    script_options: frozenset[str] = frozenset()
    #: By letter or name, an option whose value is the folder in which the command runs.
    folder_options: frozenset[str] = frozenset()


_SCRIPTS = frozenset({"c", "--command"})

WRAPPERS: dict[str, Wrapper] = {
    "sudo": Wrapper(
        "A E H n S b k K P l v i s --preserve-env --non-interactive --set-home --stdin --background --login --shell",
        "u g h p C r t T U D R --user --group --host --prompt --chdir --role --type",
        assigns=True, folder_options=frozenset({"D", "--chdir"}),
    ),
    "doas": Wrapper("n s L", "u C a"),
    "env": Wrapper(
        "i 0 v - --ignore-environment --null --debug", "u C --unset --chdir",
        assigns=True, folder_options=frozenset({"C", "--chdir"}),
    ),
    "xargs": Wrapper(
        "0 r t p x o --null --no-run-if-empty --verbose --interactive --exit --open-tty",
        "I i n L l P s d a E e --replace --max-args --max-lines --max-procs --max-chars --delimiter --arg-file --eof",
        appends=True,
    ),
    "timeout": Wrapper("f v p --foreground --preserve-status --verbose", "k s --kill-after --signal", 1),
    "gtimeout": Wrapper("f v p --foreground --preserve-status --verbose", "k s --kill-after --signal", 1),
    "nice": Wrapper("", "n --adjustment"),
    "ionice": Wrapper("t --ignore", "c n --class --classdata"),
    "chrt": Wrapper("b f i o r a v R --batch --fifo --idle --other --rr", "T P D", 1),
    "taskset": Wrapper("a --all-tasks c --cpu-list", "", 1),
    "nohup": Wrapper(),
    "time": Wrapper("p v q --portability --verbose --quiet", "f --format"),
    "stdbuf": Wrapper("", "i o e --input --output --error"),
    "unbuffer": Wrapper("p"),
    "setsid": Wrapper("c f w --ctty --fork --wait"),
    "command": Wrapper("p v V"),
    "builtin": Wrapper(),
    "coproc": Wrapper(),
    "exec": Wrapper("c l", "a"),
    "catchsegv": Wrapper(),
    "fakeroot": Wrapper("u --unknown-is-real", "l s i b"),
    "chroot": Wrapper("--skip-chdir", "--groups --userspec", 1),
    "unshare": Wrapper("m u i n p U C T f r c", "S G R w"),
    "nsenter": Wrapper("m u i n p U C a F Z", "t S G r w"),
    "setpriv": Wrapper("--no-new-privs --clear-groups --keep-groups", "--reuid --regid"),
    "prlimit": Wrapper("", "--nofile --nproc --as --cpu --core"),
    "strace": Wrapper("f ff c C q v y t T r", "e s P p u E"),
    "ltrace": Wrapper("f c C S t T r", "e s p u a"),
    "watch": Wrapper("b d e g t x c p", "n q --interval", by_shell=True),
    "flock": Wrapper("s x e o u n F v", "w E c --timeout --command", 1, script_options=_SCRIPTS),
    "script": Wrapper(
        "a f q e", "c t I O B E --command", script_options=_SCRIPTS
    ),
    "su": Wrapper("l m p P f", "c g G s w --command --shell", script_options=_SCRIPTS),
    "runuser": Wrapper(
        "l m p P f", "u c g G s w --command --shell", script_options=_SCRIPTS
    ),
    "busybox": Wrapper(),
    "toybox": Wrapper(),
}  # fmt: skip
#: What runs another program out of an environment or packages of its own, by the words in front of that one.
_RUNNERS = {
    "uv": ("run",), "poetry": ("run",), "pipenv": ("run",), "pdm": ("run",), "hatch": ("run",), "rye": ("run",),
    "bundle": ("exec",), "npx": (), "bunx": (), "pnpx": (), "yarn": (), "pnpm": ("exec",), "npm": ("exec", "x"),
    "xvfb-run": (), "dotenv": ("run",), "rtk": (), "pnpm-exec": (),
}  # fmt: skip
#: Options whose value, if they have one, stands in the same word.
_OPTIONAL_VALUE = frozenset({"i", "l", "e", "--replace", "--max-lines", "--eof"})
#: Options by which what comes from elsewhere takes the place of a text in the command's words.
_REPLACED = frozenset({"I", "i", "--replace"})
#: Options of these that have them run or do what their words don't tell.
_NO_COMMAND = {"sudo": frozenset({"i", "s", "e"}), "su": frozenset({"s"}), "runuser": frozenset({"s"})}


@dataclass(frozen=True)
class Inner:
    """What a wrapper runs: words, or a command line; nothing where it only tells something."""

    words: tuple[Word, ...] = ()
    scripts: tuple[Word, ...] = ()
    assignments: tuple[tuple[str, Word], ...] = ()
    problem: str = ""
    #: Where it goes before that; None: nowhere.
    folder: Word | None = None
    #: `command -v`: only asked where it is.
    asks: bool = False


_ASSIGNMENT = re.compile(r"(\w+)=(.*)", re.DOTALL)


def wrapper_open(name: str, wrapper: Wrapper, arguments: Sequence[Word]) -> Inner:
    """Where the command of a wrapper begins; with a problem where that can't be told."""
    flags, values = set(wrapper.flags.split()), set(wrapper.values.split())
    rest = list(arguments)
    scripts: list[Word] = []
    assignments: list[tuple[str, Word]] = []
    asks, replaced = False, ""
    folder: Word | None = None
    while rest:
        word = rest[0]
        if not word.plain:
            if word.may_be_option or not wrapper.assigns:
                return Inner(problem=f"what {name} runs can't be told")
            break
        text = word.text
        if text == "--":
            rest.pop(0)
            break
        if not text.startswith("-") or (text == "-" and "-" not in flags):
            break
        rest.pop(0)
        if text == "-":
            continue
        taken = _option_take(text, flags, values)
        if taken is None and name == "nice" and re.fullmatch(r"-\d+", text):
            continue
        if taken is None:
            return Inner(problem=f"the option {text} of {name} isn't known here")
        option, value, takes = taken
        if option in _NO_COMMAND.get(name, ()):
            return Inner(problem=f"{name} {text} starts a shell")
        asks = asks or (name == "command" and option in ("v", "V"))
        if takes:
            if value is None and option not in _OPTIONAL_VALUE and not rest:
                return Inner(problem=f"{name} {text} lacks its value")
            given = Word(value or "") if value is not None or option in _OPTIONAL_VALUE else rest.pop(0)
            if option in wrapper.script_options:
                scripts.append(given)
            if option in wrapper.folder_options:
                folder = given
            if option in _REPLACED:
                replaced = given.text or "{}"
    for _ in range(wrapper.operands):
        if rest:
            if rest[0].globbed or rest[0].splits:
                return Inner(problem=f"what {name} runs can't be told")
            rest.pop(0)
    while wrapper.assigns and rest and (found := _ASSIGNMENT.match(rest[0].text)):
        if rest[0].globbed or rest[0].splits:
            return Inner(problem=f"what {name} runs can't be told")
        assignments.append((found[1], Word(found[2], dynamic=rest[0].dynamic)))
        rest.pop(0)
    if name in ("su", "runuser", "script") and not scripts:
        # Their options may also stand behind their operands.
        return Inner(problem=f"{name} starts a shell")
    if name == "flock" and rest and rest[0].text in ("-c", "--command"):
        scripts += rest[1:2] or [Word("", dynamic=True)]
    if replaced:
        rest = [
            replace(word, dynamic=True, source=word.source or word.text) if replaced in word.text else word
            for word in rest
        ]
    if scripts:
        return Inner(scripts=tuple(scripts), words=() if name in ("su", "runuser", "script", "flock") else tuple(rest))
    return Inner(words=tuple(rest), assignments=tuple(assignments), folder=folder, asks=asks)


def _option_take(text: str, flags: set[str], values: set[str]) -> tuple[str, str | None, bool] | None:
    """The option, the value that stands in the same word, and whether it takes one; None where it isn't known."""
    if text.startswith("--"):
        name, separator, value = text.partition("=")
        # Names may be cut short where they stay clear.
        known = {option for option in flags | values if option.startswith("--") and option.startswith(name)}
        if name in flags | values:
            known = {name}
        if len(known) != 1:
            return None
        option = known.pop()
        if option in values:
            return option, value if separator else None, True
        return option, None, False
    for position, letter in enumerate(text[1:], start=1):
        if letter in values:
            return letter, text[position + 1 :] or None, True
        if letter not in flags:
            return None
    return text[-1] if len(text) == 2 else _worst_flag(text), None, False


def _worst_flag(text: str) -> str:
    """Of several flags in a word, the one that changes the most."""
    return next((letter for letter in "sievV" if letter in text[1:]), text[-1])


def runner_open(name: str, behind: Sequence[Word]) -> Sequence[Word] | None:
    """The words that a runner runs, none where that can't be told; None: it is no runner, or does something else."""
    if name not in _RUNNERS:
        return None
    commands = _RUNNERS[name]
    rest = list(behind)
    if commands:
        if not rest or rest[0].text not in commands:
            return None
        rest.pop(0)
    elif name == "yarn" and rest and rest[0].text in ("run", "exec"):
        rest.pop(0)
    if rest and rest[0].text == "--":
        rest.pop(0)
    # Its own options may take values, so that the program behind them isn't clear.
    return [] if rest and rest[0].text.startswith("-") else rest
