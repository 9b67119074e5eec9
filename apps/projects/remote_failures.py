"""Why git could not fetch from another host, or push to it, told from what it and ssh said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from apps.core.errors import ApplicationError, InvalidInput, Unavailable
from apps.projects.git import GitError, path_display
from apps.projects.remote_access import RemoteAccess


class FetchRefused(InvalidInput):
    """The other side did not hand the repository out, or what it handed out can't be taken."""

    code = "repository_refused"


class PushRefused(InvalidInput):
    """The host does not take the branch."""

    code = "push_refused"


class HostKeyChanged(InvalidInput):
    """The host showed another key than the one that is known."""

    code = "host_key_changed"


class HostUnreachable(Unavailable):
    """The host of the repository did not answer, or stopped answering."""

    code = "host_unreachable"


@dataclass(frozen=True)
class _Cause:
    """What is said (a regular expression), the error that it is, and what to do about it."""

    pattern: str
    kind: type[ApplicationError]
    message: str
    next_step: str
    #: What is told in place of ``message`` when no credentials were given.
    without_secret: str = ""


#: The first that fits is the one.
_CAUSES = (
    _Cause(
        pattern=r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed",
        kind=HostKeyChanged,
        message="The host shows another key than the one that is known for it",
        next_step="Ask whoever runs the host whether its key was changed. If so, set known_hosts of the source to "
        "the new key, or to nothing so that the next one is believed.",
    ),
    _Cause(
        pattern=r"Host key verification failed|No \S+ host key is known",
        kind=HostKeyChanged,
        message="The host shows a key that is not among those given for it",
        next_step="Compare the keys in known_hosts with those of the host (`ssh-keyscan HOST`).",
    ),
    _Cause(
        pattern=r"Permission denied \(|Too many authentication failures|Load key .*(?:invalid|error)",
        kind=FetchRefused,
        message="The host does not accept the deploy key",
        next_step="Add the public half of the key to the repository's deploy keys, or set another key.",
    ),
    _Cause(
        pattern=r"Authentication failed|could not read (?:Username|Password)|error: 401|invalid credentials",
        kind=FetchRefused,
        message="The host does not accept the token",
        next_step="Set one that may read the repository (`archon`: ARCHON_GIT_TOKEN or --token-file), and the user "
        "name that it belongs to if the host asks.",
        without_secret="The host wants a token, and none is set",
    ),
    _Cause(
        pattern=r"error: 403(?! from proxy)|Write access to repository not granted|access denied|not allowed to",
        kind=FetchRefused,
        message="The host knows the credentials and does not let them read this repository",
        next_step="Give the token or key the right to read the repository.",
    ),
    _Cause(
        pattern=r"repository '.*' not found|error: 404|Repository not found|does not appear to be a git repository"
        r"|ERROR: .*not found|No such (?:file or directory|repository)",
        kind=FetchRefused,
        message="The host has no such repository, or hides it from these credentials",
        next_step="Check the address; for a private repository set a token or a deploy key that may read it.",
    ),
    _Cause(
        pattern=r"error setting certificate|certificate file|error reading ca cert",
        kind=HostUnreachable,
        message="The server's file of certificates can't be read",
        next_step="Have the operator check ARCHON_GIT_CA_FILE.",
    ),
    _Cause(
        pattern=r"SSL certificate|certificate verif|certificate subject|unable to get local issuer|SSL: no alternative",
        kind=FetchRefused,
        message="The host's certificate is not one that the server believes in",
        next_step="Check the host's name; for an authority of your own have the operator set ARCHON_GIT_CA_FILE.",
    ),
    _Cause(
        pattern=r"unable to update url base from redirection|redirect",
        kind=FetchRefused,
        message="The host sends the request elsewhere, which is not followed",
        next_step="Name the address that the repository has now.",
    ),
    _Cause(
        pattern=r"code 403 from proxy|CONNECT tunnel failed, response 403",
        kind=FetchRefused,
        message="The host sends the request to another host, which is not followed",
        next_step="Name the address that the repository has now.",
    ),
    _Cause(
        pattern=r"code 50\d from proxy|CONNECT tunnel failed, response 50\d|proxy: "
        r"|Connection (?:refused|timed out|closed|reset)|Failed to connect|Could not resolve|Operation too slow"
        r"|timed out|early EOF|unexpected disconnect"
        r"|hung up unexpectedly|Empty reply|error: 5\d\d|kex_exchange_identification|Timeout, server|no answer within",
        kind=HostUnreachable,
        message="The host does not answer, or stopped in the middle",
        next_step="Check the address, and try again (POST …/repository/sync/).",
    ),
    _Cause(
        pattern=r"fsck error|error in (?:packed )?object|bad (?:object|tree|index file)|invalid (?:object|index-pack)"
        r"|index-pack failed|did not (?:send|receive) all necessary objects|pack (?:has|is corrupted)|missing blob",
        kind=FetchRefused,
        message="The repository holds objects that are damaged or that no check-out could hold",
        next_step="Run `git fsck --strict` in it and mend what it reports.",
    ),
    _Cause(
        pattern=r"mismatched algorithms|object format|sha256",
        kind=FetchRefused,
        message="The repository is of a kind (SHA-256) that is not supported",
        next_step="Use a repository with SHA-1 objects.",
    ),
    _Cause(
        pattern=r"shallow",
        kind=FetchRefused,
        message="The repository there is a shallow clone, so that its history is not complete",
        next_step="Run `git fetch --unshallow` in it.",
    ),
)

#: What may be different for who may read and not write; before those that both have in common.
PUSH_CAUSES = (
    _Cause(
        pattern=r"error: 403(?! from proxy)|Write access to repository not granted|does not have write access"
        r"|marked as read[ -]only|Permission to \S+ denied|deploy key .*read[ -]only|not allowed to (?:push|upload)",
        kind=PushRefused,
        message="The host knows the credentials and does not let them write to this repository",
        next_step="Give the source's token or deploy key the right to write to the repository, or set another one "
        "(PATCH …/repository/source/).",
    ),
    _Cause(
        pattern=r"Authentication failed|could not read (?:Username|Password)|error: 401|invalid credentials",
        kind=PushRefused,
        message="The host does not accept the token",
        next_step="Set one that may write to the repository (PATCH …/repository/source/).",
        without_secret="The host wants a token, and none is set",
    ),
    _Cause(
        pattern=r"error: 413|pack exceeds maximum|file size limit|larger than|exceeds .*file size",
        kind=PushRefused,
        message="The host finds what is pushed too large",
        next_step="Look for large files in the session's diff; the host says how much it takes.",
    ),
    *_CAUSES,
)


def remote_error(error: GitError, access: RemoteAccess, *, causes: Sequence[_Cause] = _CAUSES) -> ApplicationError:
    """What went wrong, with what the other side said of it; secrets are taken out of that."""
    said = error.stderr
    for secret in access.secrets:
        said = said.replace(secret, "***")
    for cause in causes:
        if re.search(cause.pattern, said, re.IGNORECASE):
            message = (not access.secrets and cause.without_secret) or cause.message
            return cause.kind(f"{message}: {_essence(said)}", next_step=cause.next_step)
    if causes is not _CAUSES:
        return PushRefused(f"git could not push the branch: {_essence(said)}", next_step="Check the address.")
    return FetchRefused(f"git could not fetch the repository: {_essence(said)}", next_step="Check the address.")


def _essence(said: str) -> str:
    """The line that says the most: the first that is an error, but for how git, which can't ask anyone, says so."""
    lines = [line.strip() for line in re.split(r"[\r\n]", said) if line.strip() and "askpass" not in line]
    telling = [
        line for line in lines if re.match(r"fatal|error|remote: (?!Enum|Count|Compr|Total)|ERROR|\S+@\S+: ", line)
    ]
    line = (telling or lines or ["no reason given"])[0]
    return path_display(re.sub(r"[^\x20-\x7e\u00a0-\uffff]", "?", line))[:500]
