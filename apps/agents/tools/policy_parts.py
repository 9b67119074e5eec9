"""What the policy judges: the parts of a call, each with what it may do."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from apps.agents.tools.base import Risk
from apps.core.shell_parse_words import Word

#: From the least to the worst. What runs code that nobody looked at is worse than what says what it does.
SEVERITY: tuple[Risk, ...] = (
    Risk.TALK,
    Risk.READ,
    Risk.WRITE,
    Risk.DELETE,
    Risk.NETWORK,
    Risk.INSTALL,
    Risk.GIT_HISTORY,
    Risk.EXECUTE,
    Risk.UNKNOWN,
)
_RANK = {risk: rank for rank, risk in enumerate(SEVERITY)}
#: What a person is shown of a part.
SHOWN = 300


def risk_rank(risk: Risk) -> int:
    return _RANK[risk]


def risk_worst(risks: Iterable[Risk]) -> Risk:
    """The worst of them; of none, READ."""
    return max(risks, key=risk_rank, default=Risk.READ)


@dataclass(frozen=True)
class Part:
    """One thing that a call does: a command within a command line, a redirection, or the call itself."""

    #: As rules see it, and as a person is told of it.
    text: str
    risks: frozenset[Risk]
    #: Why, where the text doesn't say it.
    reason: str = ""
    #: Other ways to write the same, which a rule that restricts has to meet as well.
    variants: tuple[str, ...] = ()
    #: Words that may name files.
    words: tuple[Word, ...] = ()
    #: Folders that the words may be relative to; None among them: any.
    folders: tuple[str | None, ...] = (".",)
    #: What it does, it does to all that is in a folder.
    recursive: bool = False
    #: It comes from a command line, in which a word names a file in many ways.
    is_command: bool = True

    @property
    def risk(self) -> Risk:
        return risk_worst(self.risks)

    @property
    def is_wrapper(self) -> bool:
        """It does nothing by itself that anybody would have to look at."""
        return self.risks <= {Risk.READ, Risk.TALK}


def words_text(words: Iterable[Word]) -> str:
    """The words as one would write them; expansions as they were written."""
    return " ".join(shlex.quote(word.text) if word.plain else (word.source or word.text) for word in words)


@dataclass(frozen=True)
class Assessment:
    """What a call may do, all parts together."""

    parts: tuple[Part, ...] = field(default=())

    @property
    def risk(self) -> Risk:
        return risk_worst(part.risk for part in self.parts)

    @property
    def reasons(self) -> tuple[str, ...]:
        """In words, the worst first: what of it is more than reading."""
        told = sorted((part for part in self.parts if not part.is_wrapper), key=lambda part: -risk_rank(part.risk))
        lines = []
        for part in told:
            shown = part.text if len(part.text) <= SHOWN else part.text[:SHOWN] + "…"
            lines.append(f"{part.risk.value}: {shown}" + (f" ({part.reason})" if part.reason else ""))
        return tuple(dict.fromkeys(lines))
