"""What programs that run another one do by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from apps.agents.tools.base import Risk
from apps.core.shell_parse_words import words_set

_READS = frozenset({Risk.READ})


@dataclass(frozen=True)
class WrapperRisks:
    """What it may do whatever it runs, and what it does without a command."""

    own: frozenset[Risk] = _READS
    alone: frozenset[Risk] = _READS


_PRIVILEGED = frozenset({Risk.EXECUTE})
_SHELL = frozenset({Risk.UNKNOWN})
_NONE = WrapperRisks()
_RISKS: Mapping[str, WrapperRisks] = {
    **dict.fromkeys(
        words_set("sudo doas chroot unshare nsenter strace ltrace su runuser"), WrapperRisks(_PRIVILEGED, _SHELL)
    ),
    **dict.fromkeys(words_set("fakeroot setpriv"), WrapperRisks(_PRIVILEGED)),
    "script": WrapperRisks(frozenset({Risk.WRITE}), _SHELL),
}


def wrapper_risks(name: str) -> WrapperRisks:
    return _RISKS.get(name, _NONE)
