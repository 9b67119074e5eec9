"""What a goal asks for, as far as its words tell: a hint for the planner, which has read the code and decides."""

from __future__ import annotations

import re

from apps.planning.types import Intent

#: A longer goal describes more than one change in a known place.
_SMALL_LENGTH = 240
_ASKS = re.compile(
    r"^\W*(?:(?:please|hi|hello|hey)\W+)*"
    r"(?:what|where|why|how|which|who|whose|when|is|are|was|were|does|do|did|has|have|can|could|should|would|will)\b",
    re.IGNORECASE,
)
_EXPLAINS = re.compile(
    r"^\W*(?:please\W+)?(?:can you |could you |would you )?"
    r"(?:explain|describe|tell me|summari[sz]e|list all|list the|show me (?:where|how|which|what)|find out)\b",
    re.IGNORECASE,
)
#: Asked as a question, and a request all the same.
_REQUEST = re.compile(
    r"\b(?:can|could|would|will) you (?:please )?(?!explain|describe|tell|summari|show|list|find out)\w+"
    r"|\b(?:please|then|and) (?:fix|add|change|make|implement|rename|remove|update|write|create|refactor)\b"
    r"|(?:^|[.?!]\s+|\n\s*)(?:fix|add|change|make|implement|rename|remove|update|write|create|refactor|mend)\b",
    re.IGNORECASE,
)
_BUG = re.compile(
    r"\b(?:bugs?|fix(?:es|ed)?|mend|broken|breaks?|crash(?:es|ed|ing)?|fail(?:s|ed|ing|ure)?|exceptions?|traceback"
    r"|regressions?|wrong(?:ly)?|incorrect(?:ly)?|leaks?|hangs?|deadlock|off[- ]by[- ]one|segfault|panics?"
    r"|(?:doesn'?t|does not|don'?t|do not|no longer|stopped) work(?:s|ed|ing)?|should (?:not|be|have)\b.*\bbut\b)\b"
    r"|\b\w+(?:Error|Exception)\b|Traceback \(most recent call last\)",
    re.IGNORECASE,
)
_SMALL = re.compile(
    r"\b(?:typos?|spelling|misspell\w*|reword|rename|bump|one[- ]line\w*|whitespace|indentation"
    r"|unused (?:imports?|variables?)|docstrings?|comments?|type hints?|log (?:level|message)|constant"
    r"|default (?:value|timeout)|version (?:number|to))\b"
    r"|\b(?:change|set|replace|switch)\b.{1,80}\b(?:to|with|by)\b",
    re.IGNORECASE | re.DOTALL,
)


def intent_guess(goal: str) -> Intent:
    """By the words alone: a question, a small edit, a bug or a feature. A feature where they tell nothing."""
    text = goal.strip()
    asks = bool(_EXPLAINS.search(text)) or (bool(_ASKS.search(text)) and "?" in text)
    if asks and not _REQUEST.search(text):
        return Intent.QUESTION
    if len(text) <= _SMALL_LENGTH and _SMALL.search(text):
        return Intent.SMALL_EDIT
    if _BUG.search(text):
        return Intent.BUG
    return Intent.FEATURE
