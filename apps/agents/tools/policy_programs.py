"""What programs do, by their name and their words.

A program that isn't known here runs code: ``execute``. One that is known to read only does so only with the options
that it has been looked at with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from apps.agents.tools.base import Risk
from apps.core.shell_parse_words import Word, words_set

Judged = tuple[set[Risk], str]

R, W, D, U = Risk.READ, Risk.WRITE, Risk.DELETE, Risk.UNKNOWN
EXPANDED = "an expansion may become an option"


@dataclass(frozen=True)
class Program:
    """What it does at least, and the options by which it does more: by short letter and by long name."""

    risks: frozenset[Risk]
    short: Mapping[str, Risk] = field(default_factory=dict)
    long: Mapping[str, Risk] = field(default_factory=dict)
    #: More operands than these are written to.
    operands_read: int = 10**6


def _programs(names: str, *risks: Risk, **more: object) -> dict[str, Program]:
    return {name: Program(frozenset(risks), **more) for name in names.split()}  # type: ignore[arg-type]


PROGRAMS: dict[str, Program] = {
    **_programs(
        "cat head tail wc ls dir vdir pwd echo true false : test [ [[ stat du df basename dirname realpath readlink"
        " md5sum sha1sum sha224sum sha256sum sha384sum sha512sum b2sum cksum sum cmp diff comm cut paste tr nl od"
        " hexdump strings seq sleep whoami id groups uname uptime free nproc arch tty printenv locale getconf expr"
        " factor fold fmt column join tac rev expand unexpand tsort grep egrep fgrep jq base64 base32 numfmt which"
        " whereis type cd pushd popd dirs exit return break continue shift times umask ulimit bg fg disown"
        " logout suspend caller sync ps pgrep pstree pidof",
        R,
    ),
    "jobs": Program(frozenset({R}), {"x": U}),
    "sort": Program(frozenset({R}), {"o": W}, {"--output": W, "--compress-program": U}),
    "uniq": Program(frozenset({R}), operands_read=1),
    "xxd": Program(frozenset({R}), operands_read=1),
    "tree": Program(frozenset({R}), {"o": W}),
    "date": Program(frozenset({R}), {"s": Risk.EXECUTE}, {"--set": Risk.EXECUTE}),
    "file": Program(frozenset({R}), {"C": W, "z": U, "Z": U}, {"--compile": W, "--uncompress": U}),
    "rg": Program(frozenset({R}), {"z": Risk.EXECUTE}, {"--pre": U, "--hostname-bin": U, "--search-zip": Risk.EXECUTE}),
    "fd": Program(frozenset({R}), {"x": U, "X": U}, {"--exec": U, "--exec-batch": U}),
    "fdfind": Program(frozenset({R}), {"x": U, "X": U}, {"--exec": U, "--exec-batch": U}),
    **_programs("cp mv mkdir touch ln chmod chown chgrp tee dd mktemp mkfifo mknod csplit gzip gunzip bzip2 bunzip2"
                " xz unxz zstd unzip ar cpio setfacl patch iconv", W),
    "install": Program(frozenset({W}), {}, {"--strip-program": U}),
    "split": Program(frozenset({W}), {}, {"--filter": U}),
    "zip": Program(frozenset({W}), {"m": D}, {"--unzip-command": U, "-TT": U, "--move": D}),
    "tar": Program(
        frozenset({W}),
        {"I": U, "F": U},
        {
            "--use-compress-program": U, "--to-command": U, "--checkpoint-action": U, "--info-script": U,
            "--new-volume-script": U, "--rsh-command": U, "--rmt-command": U, "--remove-files": D,
            "--recursive-unlink": D,
        },
    ),
    "rsync": Program(
        frozenset({W}), {"e": U}, {"--rsh": U, "--rsync-path": U, "--delete": D, "--remove-source-files": D}
    ),
    **_programs("rm rmdir unlink shred wipe srm truncate", D),
    "curl": Program(
        frozenset({Risk.NETWORK}), {"o": W, "O": W, "K": U, "D": W, "c": W},
        {
            "--output": W, "--remote-name": W, "--config": U, "--cookie-jar": W, "--dump-header": W, "--trace": W,
            "--libcurl": W, "--hsts": W, "--etag-save": W, "--stderr": W, "--alt-svc": W,
        },
    ),
    "wget": Program(frozenset({Risk.NETWORK, W}), {"e": U}, {"--use-askpass": U, "--execute": U, "--config": U}),
    **_programs("telnet ftp tftp ping ping6 dig nslookup host traceroute tracepath whois", Risk.NETWORK),
    **_programs("http https", Risk.NETWORK, W),
    **_programs("aria2c lynx links w3m openssl", Risk.NETWORK, Risk.EXECUTE),
    "nc": Program(frozenset({Risk.NETWORK}), {"e": U, "c": U}, {"--exec": U, "--sh-exec": U}),
    "ncat": Program(frozenset({Risk.NETWORK}), {"e": U, "c": U}, {"--exec": U, "--sh-exec": U, "--lua-exec": U}),
    "netcat": Program(frozenset({Risk.NETWORK}), {"e": U, "c": U}),
    **_programs("ssh scp sftp rsh rlogin gh hub glab aws gcloud az kubectl helm docker podman nerdctl svn hg psql"
                " mysql",
                Risk.NETWORK, Risk.EXECUTE),
    **_programs("source .", Risk.EXECUTE),
    **_programs("kill pkill killall", Risk.EXECUTE),
    **_programs("alias compgen getopts eval enable bind complete compopt fc history hash let shopt socat parallel at"
                " batch crontab mapfile readarray", U),
}  # fmt: skip
#: These take names of variables, and run what stands in a subscript.
_NAMING = words_set("read printf unset local declare typeset export readonly wait test [")
_DECLARES = words_set("local declare typeset export readonly")
_DECLARE_OPTION = re.compile(r"-[aAgrluxp]+|-n|--")
_ASSIGNS = re.compile(r"\w+=")
_SUBSCRIPT = re.compile(r"\w+\[")
_INTERPRETERS = re.compile(
    r"(python|pypy)[\d.]*t?|node|nodejs|deno|bun|perl[\d.]*|ruby[\d.]*|irb|php[\d.]*|lua(jit)?[\d.]*|tclsh[\d.]*|wish"
    r"|expect|Rscript|R|julia|guile|osascript|pwsh|powershell|groovy|scala|jshell|ghci|runghc|erl|elixir|iex|ocaml|swipl"
)
_INLINE = re.compile(r"-[A-Za-z]*[ceEpPrR]|--(eval|print|command|execute|run|code|exec)|eval|-")
_INSTALLERS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for names, pattern in {
        "pip pip3 pipx": r"install|uninstall|download|wheel|inject|upgrade.*|reinstall.*|run|sync|ensurepath",
        "uv": r"add|remove|sync|lock|pip|tool|venv|python|build|publish|self",
        "poetry pdm pipenv hatch rye": (
            r"add|install|update|upgrade|remove|lock|sync|self|uninstall|publish|env|python|use"
        ),
        "conda mamba micromamba": r"install|create|update|upgrade|remove|uninstall|env|clean",
        "npm pnpm yarn bun": (
            r"i|in|ins|inst|insta|instal|install|isnt.*|ci|clean-install.*|add|update|up|upgrade|remove|rm|r|un|unlink"
            r"|uninstall|dedupe|ddp|link|ln|audit|rebuild|rb|exec|x|dlx|create|init|innit|publish|pack|install-test|it|cit"
            r"|global|import|prune|set|config|login|version|dist-tag|unpublish|self-update|patch.*|store|fetch|deploy"
        ),
        "apt apt-get aptitude dpkg yum dnf microdnf apk pacman zypper brew port snap flatpak emerge nix-env": r".*",
        "gem": r"install|update|uninstall|push|fetch|cleanup|build",
        "bundle bundler": r"install|update|add|remove|lock|package|cache|config|clean|init|inject",
        "cargo": r"install|add|remove|update|fetch|uninstall|publish|vendor|generate-lockfile|yank|login|search|owner",
        "go": r"get|install|mod|work|clean|env",
        "composer": r"require|install|update|remove|global|create-project|self-update|config",
        "rustup nvm fnm volta asdf mise corepack sdk pyenv rbenv nodenv": r".*",
        "luarocks cpan cpanm opam cabal stack raco dotnet-install easy_install npx bunx pnpx uvx nix-shell nix": r".*",
    }.items()
    for name in names.split()
}
#: These run what they have fetched.
_RUN_FOREIGN = words_set("npx bunx pnpx uvx exec x dlx run create init tool nix-shell nix")
#: Commands that these run in their own environment.
RUNNERS = words_set(
    "uv poetry pdm pipenv hatch rye bundle conda mamba micromamba npm pnpm yarn bun mise asdf rbenv pyenv"
)
_ASKED = frozenset({"--version", "-V", "-version", "--help"})
_LISTS = {
    "pip": "list show freeze check", "pip3": "list show freeze check", "npm": "ls list ll root prefix bin",
    "cargo": "tree metadata", "go": "version list", "poetry": "show", "gem": "list", "conda": "list info",
}  # fmt: skip


def program_judge(name: str, words: Sequence[Word]) -> Judged:
    """What ``name`` does with the words behind it; ``words`` has the program first."""
    arguments = list(words[1:])
    texts = [word.text for word in arguments]
    if special := _SPECIAL.get(name):
        return special(arguments)
    if name in _NAMING:
        return _naming_judge(name, arguments)
    if name in PROGRAMS:
        return _known_judge(name, PROGRAMS[name], arguments)
    if len(arguments) == 1 and arguments[0].plain and texts[0] in _ASKED:
        return {R}, ""
    if re.fullmatch(r"pip\d+\.\d+", name):
        name = "pip"
    if name in _INSTALLERS:
        risks, reason = _installer_judge(name, arguments)
        if name == "bun" and Risk.INSTALL not in risks:
            return _interpreter_judge(name, arguments)
        return risks, reason
    if _INTERPRETERS.fullmatch(name):
        return _interpreter_judge(name, arguments)
    return {Risk.EXECUTE}, ""


def _naming_judge(name: str, arguments: Sequence[Word]) -> Judged:
    texts = [word.text for word in arguments]
    only_values = name in ("printf", "test", "[")
    names_variable = name == "printf" and any(text.startswith("-v") for text in texts[:1])
    names_variable = names_variable or (name in ("test", "[") and bool({"-v", "-R"} & set(texts)))
    may_name = name == "printf" and bool(arguments) and arguments[0].may_be_option
    if not only_values:
        names_variable = any(_SUBSCRIPT.match(text) for text in texts)
        may_name = any(word.dynamic and not _ASSIGNS.match(word.text) for word in arguments)
    if name in _DECLARES and any(
        text.startswith(("-", "+")) and not (_DECLARE_OPTION.fullmatch(text) and (text != "-n" or name == "export"))
        for text in texts
    ):
        return {U}, "it gives variables a meaning that may run what is in them"
    if names_variable or may_name:
        return {U}, "it names variables in a way that may run what is in them"
    return {R}, ""


def _known_judge(name: str, program: Program, arguments: Sequence[Word]) -> Judged:
    risks, reason = set(program.risks), ""
    operands = 0
    for position, word in enumerate(arguments):
        if word.may_be_option and not word.plain and (program.short or program.long or program.operands_read < 10**6):
            return risks | {U}, EXPANDED
        text = word.text
        bundle = text if text.startswith("-") else f"-{text}" if name == "tar" and position == 0 else ""
        if not bundle or text == "-":
            operands += 1
            continue
        base = bundle.partition("=")[0]
        if base.startswith("--"):
            found = {risk for option, risk in program.long.items() if len(base) > 2 and option.startswith(base)}
            # Some take what follows for a part of the option: `--delete-after`.
            found |= {risk for option, risk in program.long.items() if base.startswith(option)}
        else:
            found = {risk for letter, risk in program.short.items() if letter in base[1:]}
            found |= {risk for option, risk in program.long.items() if base == option}
        if found:
            risks |= found
            reason = f"{base} does more than reading" if program.risks == {R} else f"because of {base}"
    if operands > program.operands_read or (any(word.globbed for word in arguments) and program.operands_read < 10**6):
        risks |= {W}
        reason = "its second file is written to"
    if name == "rsync" and any(":" in word.text for word in arguments):
        risks |= {Risk.NETWORK}
    return risks, reason


def _interpreter_judge(name: str, arguments: Sequence[Word]) -> Judged:
    if name.startswith(("python", "pypy")) and (module := python_module(arguments)):
        if module[0].text == "ensurepip":
            return {Risk.INSTALL, Risk.EXECUTE}, ""
        if module[0].text in _INSTALLERS:
            return program_judge(module[0].text, module)
        return {Risk.EXECUTE}, ""
    for word in arguments:
        if not word.plain:
            return {U}, "which code it runs can't be told"
        if _INLINE.match(word.text) and (word.text.startswith("-") or word.text == "eval"):
            return {U}, "it runs code that stands in the command line or comes to it on the way"
        if not word.text.startswith("-"):
            return {Risk.EXECUTE}, ""
    return {U}, "it runs code that comes to it on the way"


def python_module(arguments: Sequence[Word]) -> list[Word]:
    """What stands behind ``-m``, the module first; nothing where there is none."""
    for position, word in enumerate(arguments):
        if not word.plain or not word.text.startswith("-"):
            return []
        found = re.fullmatch(r"-[A-Za-bd-ln-z]*m(.*)", word.text, re.DOTALL)
        if found and found[1]:
            return [Word(found[1]), *arguments[position + 1 :]]
        if found:
            return list(arguments[position + 1 :])
    return []


def _installer_judge(name: str, arguments: Sequence[Word]) -> Judged:
    operands = [word for word in arguments if not word.text.startswith("-")]
    if any(not word.plain for word in arguments[:2]):
        return {Risk.INSTALL, Risk.NETWORK, U}, "what it does can't be told"
    if operands and operands[0].text in _LISTS.get(name, "").split():
        return {R}, ""
    if not operands and name in ("yarn", "bundle", "bundler", "composer", "npx", "uvx"):
        return {Risk.INSTALL, Risk.NETWORK}, ""
    pattern = _INSTALLERS[name]
    if operands and pattern.fullmatch(operands[0].text):
        runs = name in _RUN_FOREIGN or operands[0].text in _RUN_FOREIGN
        return {Risk.INSTALL, Risk.NETWORK} | ({Risk.EXECUTE} if runs else set()), ""
    # The value of an option may come first: any of the words may be what it is to do.
    if any(pattern.fullmatch(word.text) for word in operands[1:4]):
        return {Risk.INSTALL, Risk.NETWORK, Risk.EXECUTE}, ""
    return {Risk.EXECUTE}, ""


# --- sed, awk, find -------------------------------------------------------------------------------------------------
_SED_ADDRESS = r"(?:\d+|\$|/(?:\\.|[^/\\\n])*/I?)"
_SED_COMMAND = re.compile(
    rf"\s*(?:{_SED_ADDRESS}(?:,[+~]?{_SED_ADDRESS})?)?\s*!?\s*"
    r"(?:[pdqQ=nNgGhHxDPz]|s([/|#,:@!])(?:\\.|(?!\1)[^\\\n])*\1(?:\\.|(?!\1)[^\\\n])*\1[gpiI0-9]*)?\s*"
)
_SED_OPTION = re.compile(r"-[nErsuz]+|--(quiet|silent|regexp-extended|separate|unbuffered|null-data|posix|debug)")


def _sed_judge(arguments: Sequence[Word]) -> Judged:
    risks: set[Risk] = {R}
    scripts: list[str] = []
    operands: list[Word] = []
    position = 0
    while position < len(arguments):
        word = arguments[position]
        position += 1
        if word.may_be_option and not word.plain:
            return {U}, EXPANDED
        if re.fullmatch(r"-[nErsuz]*i.*|--in-place.*", word.text) and word.plain:
            risks.add(W)
        elif re.fullmatch(r"-[nErsuz]*e|--expression", word.text) and position < len(arguments):
            if not arguments[position].plain:
                return {U}, "its script can't be told"
            scripts.append(arguments[position].text)
            position += 1
        elif _SED_OPTION.fullmatch(word.text):
            continue
        elif word.text.startswith("-") and len(word.text) > 1:
            return {U}, f"{word.text} of sed isn't known here"
        else:
            operands.append(word)
    if not scripts:
        if not operands or operands[0].dynamic:
            return {U}, "its script can't be told"
        scripts.append(operands[0].text)
    if any(not _sed_script_reads(script) for script in scripts):
        return {U}, "its script may write or run something"
    return risks, ""


def _sed_script_reads(script: str) -> bool:
    position = 0
    while position <= len(script):
        found = _SED_COMMAND.match(script, position)
        if found is None:
            return False
        position = found.end()
        if position == len(script):
            return True
        if script[position] not in ";\n":
            return False
        position += 1
    return True


_AWK_ACTS = re.compile(r"system|[|>@`]|getline|close|ENVIRON|load|include")


def _awk_judge(arguments: Sequence[Word]) -> Judged:
    position = 0
    while position < len(arguments):
        word = arguments[position]
        if not word.plain:
            return {U}, "its program can't be told"
        if word.text in ("-F", "-v"):
            position += 2
        elif re.fullmatch(r"-[Fv].+", word.text):
            position += 1
        elif word.text.startswith("-"):
            return {U}, f"{word.text} of awk isn't known here"
        else:
            if _AWK_ACTS.search(word.text):
                return {U}, "its program may write or run something"
            return {R}, ""
    return {U}, "its program can't be told"


#: Of find: what it runs is taken apart by whoever knows wrappers.
_FIND_WRITES = frozenset({"-fprint", "-fprint0", "-fprintf", "-fls"})
FIND_RUNS = frozenset({"-exec", "-execdir", "-ok", "-okdir"})


def _find_judge(arguments: Sequence[Word]) -> Judged:
    risks: set[Risk] = {R}
    for word in arguments:
        if word.may_be_option and not word.plain:
            return {U}, EXPANDED
        if word.text == "-delete":
            risks.add(D)
        elif word.text in _FIND_WRITES:
            risks.add(W)
    return risks, "it deletes what it finds" if D in risks else ""


_SET_OPTION = re.compile(r"[-+][euxfCv]*o?|[-+]o|pipefail|errexit|nounset|xtrace|--")


def _set_judge(arguments: Sequence[Word]) -> Judged:
    if all(word.plain and _SET_OPTION.fullmatch(word.text) for word in arguments):
        return {R}, ""
    return {Risk.EXECUTE}, "it changes how the shell works"


_SPECIAL: dict[str, Callable[[Sequence[Word]], Judged]] = {
    "sed": _sed_judge,
    "gsed": _sed_judge,
    "awk": _awk_judge,
    "gawk": _awk_judge,
    "mawk": _awk_judge,
    "nawk": _awk_judge,
    "find": _find_judge,
    "set": _set_judge,
}
