"""What each role's model is sent first: prompt and tools, as golden files, the same everywhere and always."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.agents.prompts import prompt_read
from apps.agents.tools.catalogue import EDITORS, TOOLS_BY_ROLE, USUAL_OFFER, Offer, tools_for
from apps.agents.tools.definitions import tool_definition
from apps.agents.tools.edit_formats import EDIT_TOOLS
from tests.golden import Golden

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = ROOT / "apps" / "agents" / "prompts"
PAGE = ROOT / "docs" / "reference" / "prompts.md"
#: Prompts that no agent of a role of its own has: what else reads them.
OTHERS = {"summary"}
#: Characters of a role's prompt and tools, in any offer: at three a token, which is more than most models take, a
#: window of 8,192 tokens has room for a reply of a quarter of it, and for 1,000 tokens of goal and brief at least.
MOST = 14_000
OFFERS = [
    Offer(edit_format, web=web, read_only=read_only)
    for edit_format, web, read_only in itertools.product(EDIT_TOOLS, (False, True), (False, True))
]


def definitions(role: str, offer: Offer = USUAL_OFFER) -> dict[str, Any]:
    return {name: tool_definition(tool)["function"] for name, tool in tools_for(role, offer).items()}


def shown(definition: dict[str, Any]) -> str:
    """A tool's definition for a person's eyes; the order within it is that in which it is sent."""
    schema = json.dumps(definition["parameters"], indent=1, ensure_ascii=False)
    return f"--- {definition['name']} ---\n{definition['description']}\n{schema}\n"


def first_tokens(role: str) -> str:
    """Prompt and tools of the usual offer."""
    tools = definitions(role)
    parts = [f"=== {role}: the prompt ===", prompt_read(role), f"\n=== {len(tools)} tools ===", *tools, ""]
    return "\n".join([*parts, *map(shown, tools.values())])


def other_offers(role: str) -> str:
    """What other offers bring: the order of all tools, and those that are not in the usual one."""
    usual = definitions(role)
    parts: list[str] = []
    known = dict(usual)
    for offer in OFFERS:
        tools = definitions(role, offer)
        if list(tools) == list(usual) and tools == usual:
            continue
        named = (
            f"{'observing, ' if offer.read_only else ''}edits by {offer.edit_format}{', the web' if offer.web else ''}"
        )
        parts += [f"=== {role}: {named} ===", ", ".join(tools), ""]
        for name, definition in tools.items():
            if known.get(name) != definition:
                parts.append(shown(definition))
                known[name] = definition
    return "\n".join(parts)


def test_what_is_sent_first_is_what_somebody_looked_at(golden: Golden) -> None:
    texts = {f"{role}.txt": first_tokens(role) for role in TOOLS_BY_ROLE}
    texts |= {f"{role}.offers.txt": text for role in TOOLS_BY_ROLE if role in EDITORS and (text := other_offers(role))}
    golden.check_folder("prompts", texts)


def test_the_web_is_one_tool_more_at_the_end_and_reading_roles_have_the_same_everywhere() -> None:
    for role in TOOLS_BY_ROLE:
        usual = definitions(role)
        for offer in OFFERS:
            if role in EDITORS:
                continue
            tools = definitions(role, offer)
            expected = [*usual, "web_fetch"] if offer.web else list(usual)
            assert list(tools) == expected and all(tools[name] == usual[name] for name in usual), (role, offer)


def test_they_leave_room_in_a_small_window() -> None:
    for role in TOOLS_BY_ROLE:
        for offer in OFFERS:
            if offer.web:
                continue
            size = len(prompt_read(role)) + len(json.dumps(list(definitions(role, offer).values())))
            assert size <= MOST, f"{role}, {offer}: say it in fewer words, or once"


def test_no_tool_says_what_goes_without_saying_and_none_loses_an_argument() -> None:
    for role in TOOLS_BY_ROLE:
        for name, tool in tools_for(role, USUAL_OFFER).items():
            parameters = tool_definition(tool)["function"]["parameters"]
            assert set(parameters["properties"]) == set(tool.arguments.model_fields), name
            assert not re.search(r'"(title|description)": ""|"minLength": 1\b|additionalProp', json.dumps(parameters))


# --- The same everywhere ----------------------------------------------------------------------------------------------
def everything(order: random.Random) -> str:
    """A digest of all that can be sent first, asked for in any order."""
    pairs = [(role, offer) for role in TOOLS_BY_ROLE for offer in OFFERS]
    order.shuffle(pairs)
    sent = {
        f"{role} {offer}": json.dumps([prompt_read(role), *definitions(role, offer).values()]) for role, offer in pairs
    }
    return hashlib.sha256(json.dumps(sorted(sent.items())).encode()).hexdigest()


@pytest.mark.parametrize("seed", ["0", "4294967295"])
def test_every_process_sends_the_same_bytes(seed: str) -> None:
    program = (
        "import django, random; django.setup()\n"
        "from tests.unit.test_prompts import everything\n"
        f"print(everything(random.Random({seed})))"
    )
    variables = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=variables, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.stdout.strip() == everything(random.Random()), ran.stderr


def test_nothing_that_differs_from_day_to_day_is_among_it() -> None:
    for role in TOOLS_BY_ROLE:
        sent = prompt_read(role) + json.dumps([definitions(role, offer) for offer in OFFERS])
        assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}|\b20\d\d-\d\d|\b\d\d:\d\d\b|[0-9a-f]{12}", sent)
        assert str(ROOT) not in sent and " object at 0x" not in sent


# --- Where prompts come from ------------------------------------------------------------------------------------------
def test_every_role_has_a_prompt_that_names_it_and_every_prompt_a_reader() -> None:
    files = {path.stem for path in PROMPTS.glob("*.md")}
    assert files == set(TOOLS_BY_ROLE) | OTHERS
    for role in TOOLS_BY_ROLE:
        assert prompt_read(role).startswith(
            f"You are Archon's {role}."
        ), "recordings and doubles tell roles by that line"


def test_every_conversation_is_opened_in_one_place() -> None:
    """So that no agent goes without what people and the repository say, and each begins with its prompt alone."""
    nodes = ROOT / "apps" / "agents" / "nodes"
    makers = {path.name for path in nodes.glob("*.py") if re.search(r"\bSystemMessage\(", path.read_text())}
    assert makers == {"opening.py", "compaction.py"}
    for path in nodes.glob("*.py"):
        text = path.read_text()
        assert "execution_open(" not in text or "conversation_opening(" in text, path.name


# --- The index --------------------------------------------------------------------------------------------------------
def rows() -> Iterator[tuple[str, str]]:
    """Each prompt file, and what the index says of it as it is now."""
    for path in sorted(PROMPTS.glob("*.md")):
        text = prompt_read(path.stem)
        told = f"{len(text):,} characters, `{hashlib.sha256(text.encode()).hexdigest()[:12]}`"
        if path.stem in TOOLS_BY_ROLE:
            tools = definitions(path.stem)
            size = len(json.dumps(list(tools.values())))
            yield path.name, f"{told} | {len(tools)}, {size:,} characters"
        else:
            yield path.name, f"{told} | none"


def test_the_index_has_every_prompt_as_it_is(golden: Golden) -> None:
    page = PAGE.read_text("utf-8")
    listed = re.findall(r"^\| \[`(\w+\.md)`\]", page, re.MULTILINE)
    assert sorted(listed) == [name for name, _ in rows()], "a row for each file; what it is for is written by hand"
    for name, told in rows():
        row = re.compile(rf"^(\| \[`{re.escape(name)}`\]\([^)]+\) \| [^|]+ \| [^|]+ \|) .* \|$", re.MULTILINE)
        for found in row.findall(page):
            page = row.sub(lambda _, line=f"{found} {told} |": line, page)  # type: ignore[misc]
    golden.check_file(PAGE, page)
