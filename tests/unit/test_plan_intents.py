"""What a goal asks for, by its words alone."""

from __future__ import annotations

import pytest

from apps.planning.intents import intent_guess
from apps.planning.types import Intent


@pytest.mark.parametrize(
    ("goal", "intent"),
    [
        ("Where is the retry policy of the HTTP client configured?", Intent.QUESTION),
        ("How does login work?\nI need it for the docs.", Intent.QUESTION),
        ("Please explain how tokens are refreshed.", Intent.QUESTION),
        ("Which callers of parse() pass a path?", Intent.QUESTION),
        ("Can you tell me where the cache is cleared?", Intent.QUESTION),
        ("Why does test_add fail? Fix it.", Intent.BUG),
        ("Can you add a --json option to the list command?", Intent.FEATURE),
        ("Fix the typo in the README", Intent.SMALL_EDIT),
        ("Rename get_user to user_get", Intent.SMALL_EDIT),
        ("Change the default timeout from 10 to 30 seconds", Intent.SMALL_EDIT),
        ("Bump the version to 1.4", Intent.SMALL_EDIT),
        ("allocate() loses a cent when the shares are uneven; mend it", Intent.BUG),
        ("ValueError: not enough values to unpack in parse_line", Intent.BUG),
        ("Uploads over 2 GB crash the worker", Intent.BUG),
        ("The export no longer works on Windows", Intent.BUG),
        ("Add an export of reports as CSV, with a page to choose columns", Intent.FEATURE),
        ("Support several currencies", Intent.FEATURE),
        ("", Intent.FEATURE),
        ("¿Dónde está la configuración?", Intent.FEATURE),
    ],
)
def test_a_goal_is_taken_for_what_its_words_say(goal: str, intent: Intent) -> None:
    assert intent_guess(goal) is intent


def test_a_long_goal_is_no_small_edit() -> None:
    assert intent_guess("Rename the store to repository. " + "It has many callers. " * 20) is Intent.FEATURE
