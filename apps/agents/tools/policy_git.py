"""What a git command does."""

from __future__ import annotations

import re
from collections.abc import Sequence

from apps.agents.tools.base import Risk
from apps.core.shell_parse_words import Word, words_set

Judged = tuple[set[Risk], str]

_READS = words_set(
    "status log diff show blame annotate shortlog describe rev-parse rev-list ls-files ls-tree cat-file "
    "name-rev merge-base for-each-ref show-ref show-branch grep count-objects whatchanged range-diff "
    "diff-tree diff-index diff-files cherry version check-ignore check-attr check-ref-format "
    "get-tar-commit-id verify-commit verify-tag verify-pack fsck column stripspace patch-id"
)
_WRITES = words_set("add mv init apply update-index sparse-checkout hash-object mktree write-tree archive")
_DELETES = words_set("rm clean checkout restore switch checkout-index read-tree")
_HISTORY = words_set(
    "commit merge rebase reset cherry-pick revert am update-ref gc prune repack pack-refs replace "
    "fast-import commit-tree filter-branch filter-repo reflog notes stash tag branch symbolic-ref worktree "
    "bisect rerere format-patch bundle subtree"
)
_NETWORK = words_set("push fetch pull clone ls-remote remote submodule send-pack fetch-pack request-pull")
#: Subcommands that only list, with these words alone behind them.
_LISTS: dict[str, frozenset[str]] = {
    "branch": frozenset({"-a", "-r", "-v", "-vv", "--list", "--all", "--remotes", "--show-current", "--no-color"}),
    "tag": frozenset({"-l", "--list", "-n"}),
    "remote": frozenset({"-v", "--verbose"}),
    "stash": frozenset({"list"}),
    "reflog": frozenset({"show"}),
    "worktree": frozenset({"list", "--porcelain"}),
    "notes": frozenset({"list"}),
}
#: Options of subcommands that read by which they do more.
_OUTPUT = "--output"
_RUNS = ("--open-files-in-pager", "--ext-diff", "--textconv", "--filters", "--upload-pack", "--receive-pack", "--exec")
_GREP_PAGER = re.compile(r"-[A-Za-z]*O")
_TEMPLATE = re.compile(r"-[A-Za-z]*[cu]|--(c|te|up)")
_NO_HARM = frozenset({"--no-pager", "--no-optional-locks", "--literal-pathspecs", "--no-replace-objects", "--bare"})
_CONFIG_READS = frozenset({"--get", "--get-all", "--get-regexp", "--list", "-l"})
_CONFIG_SCOPES = frozenset({"--global", "--local", "--system", "--worktree", "--show-origin", "--null", "-z"})
_SAFE_KEYS = ("color.", "core.quotepath=", "user.name=", "user.email=", "log.date=", "advice.")


def git_judge(words: Sequence[Word], *, elsewhere: bool) -> tuple[Judged, tuple[str, ...]]:
    """Of ``git …``: its risks and why, and the same command without git's own options.

    ``elsewhere``: it is run in another folder, whose configuration may name programs that git then runs.
    """
    unknown = elsewhere
    why = "it runs git in a folder whose configuration may name programs" if elsewhere else ""
    rest = list(words[1:])
    while rest and (not rest[0].plain or rest[0].text.startswith("-")):
        word = rest.pop(0)
        option = word.text
        if option in _NO_HARM:
            continue
        if option in ("--version", "--help") and not rest:
            return ({Risk.READ}, ""), ()
        if option in ("-c", "-C") and rest:
            value = rest.pop(0)
            if option == "-c" and word.plain and value.plain and value.text.lower().startswith(_SAFE_KEYS):
                continue
        unknown, why = True, f"git's own option {option} can have it run anything"
    if not rest:
        return ({Risk.UNKNOWN} if unknown else {Risk.READ}, why), ()
    command, arguments = rest[0], rest[1:]
    if not command.plain:
        return ({Risk.UNKNOWN}, "which git command it is can't be told"), ()
    risks, reason = _subcommand_judge(command.text, arguments)
    if unknown:
        risks, reason = risks | {Risk.UNKNOWN}, why
    plain = " ".join(["git", command.text, *(word.text for word in arguments)])
    return (risks, reason), (plain,)


def _subcommand_judge(name: str, arguments: Sequence[Word]) -> Judged:
    options = [word for word in arguments if word.text.startswith("-") or word.may_be_option]
    if any(word.may_be_option and not word.plain for word in arguments) and name in _READS | frozenset(_LISTS):
        return {Risk.UNKNOWN}, "an expansion may become an option"
    for word in options:
        base = word.text.partition("=")[0]
        if any(len(base) > 3 and runs.startswith(base) for runs in _RUNS) or (
            name == "grep" and _GREP_PAGER.match(base)
        ):
            return {Risk.UNKNOWN}, f"{base} has git run a program"
    if name in ("clone", "init") and any(_TEMPLATE.match(word.text) for word in options):
        return {Risk.UNKNOWN}, "a setting or a template can name programs that git runs"
    if any("::" in word.text for word in arguments) and name in _NETWORK:
        return {Risk.UNKNOWN}, "an address with :: has git run a program"
    if name in _READS:
        if any(
            len(word.text.partition("=")[0]) > 3 and _OUTPUT.startswith(word.text.partition("=")[0]) for word in options
        ):
            return {Risk.WRITE}, "--output writes a file"
        return {Risk.READ}, ""
    lists = name in _LISTS and all(word.plain and word.text in _LISTS[name] for word in arguments)
    if lists and (name != "stash" or arguments):
        return {Risk.READ}, ""
    if name == "config":
        return _config_judge(arguments)
    if name in ("rebase", "bisect", "submodule", "filter-branch", "difftool", "mergetool"):
        runs = any(word.text.startswith(("-x", "--ex", "run", "foreach")) for word in arguments if word.plain)
        if name in ("filter-branch", "difftool", "mergetool") or runs:
            return {Risk.GIT_HISTORY, Risk.UNKNOWN}, f"git {name} runs programs"
    if name in _NETWORK:
        return {Risk.GIT_HISTORY, Risk.NETWORK}, ""
    if name in _HISTORY:
        return {Risk.GIT_HISTORY}, ""
    if name in _DELETES:
        return {Risk.WRITE, Risk.DELETE}, "changes that aren't committed are lost"
    if name in _WRITES:
        return {Risk.WRITE}, ""
    return {Risk.EXECUTE}, f"git {name} may be an alias or a program of its own"


def _config_judge(arguments: Sequence[Word]) -> Judged:
    texts = [word.text for word in arguments if word.plain]
    rest = [text for text in texts if text not in _CONFIG_SCOPES]
    if len(texts) == len(arguments) and rest and rest[0] in _CONFIG_READS | {"get", "list"}:
        return {Risk.READ}, ""
    return {Risk.GIT_HISTORY, Risk.UNKNOWN}, "what git is set to can name programs that it runs"
