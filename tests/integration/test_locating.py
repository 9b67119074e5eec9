"""From an issue's text to files of an indexed project, the repository map, packed context, and who may see them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from apps.agents.services.code_knowledge import CodeKnowledge
from apps.agents.tools.base import Observation, ToolContext
from apps.agents.tools.catalogue import tool_find
from apps.agents.tools.knowing import LOCATE, LocateArguments
from apps.context.commit_history import history_load
from apps.context.maps import context_pack, references_find, repository_map_make, tokens_count
from apps.context.models import CodeIndex
from apps.context.models_locating import CommitHistory, ContentTerms
from apps.context.places import files_locate, locating_forget, locating_prepare
from apps.context.searching.search import index_view
from apps.context.tree_terms import terms_prune
from apps.context.types import WorkFiles
from apps.core.database import AsyncDatabase
from apps.core.errors import InvalidInput
from apps.projects.services import project_delete
from tests.api import client_for, user_make
from tests.integration.context_scene import Code, code_make, tree_make

pytestmark = pytest.mark.django_db(transaction=True)

FILES: dict[str, str | bytes] = {
    "AGENTS.md": "# Rules\n\nKeep functions short.\n",
    "shop/basket.py": (
        "from shop.prices import price_of\n\n\nclass Basket:\n    def add(self, item):\n"
        "        self.items.append(item)\n\n    def total(self):\n        return sum(price_of(i) for i in self.items)\n"
    ),
    "shop/prices.py": (
        "def price_of(item):\n    return round_money(item.price)\n\n\ndef round_money(x):\n    return x\n"
    ),
    "shop/mail.py": "def receipt_send(address):\n    return address\n",
    "web/cart.js": "export function drawCart(basket) { return basket.total(); }\n",
    "tests/test_basket.py": "from shop.basket import Basket\n\n\ndef test_total():\n    assert Basket().total() == 0\n",
}


@pytest.fixture(autouse=True)
def _nothing_held() -> Iterator[None]:
    locating_forget()
    yield
    locating_forget()


@pytest.fixture(name="code")
def _code(tmp_path: Path) -> Code:
    code = code_make(tmp_path, FILES)
    code.index()
    return code


def test_a_failure_leads_to_the_file_and_the_function(code: Code) -> None:
    text = 'A price is wrong\n\nTraceback (most recent call last):\n  File "/srv/shop/prices.py", line 2, in price_of\n'
    found = files_locate(project=code.project, text=text)
    first = found.located[0]
    assert first.path == "shop/prices.py"
    assert first.functions[0].qualified_name == "price_of"
    assert "in a stack trace, line 2" in first.reasons
    assert found.index.commit == code.project.head_commit


def test_terms_are_worked_out_once_and_follow_the_files(code: Code) -> None:
    locating_prepare(project=code.project)
    kept = ContentTerms.objects.count()
    assert kept == len(FILES)
    locating_forget()
    files_locate(project=code.project, text="basket total")
    assert ContentTerms.objects.count() == kept
    code.commit({"shop/mail.py": "def invoice_print(zebra):\n    return zebra\n"})
    code.index()
    assert files_locate(project=code.project, text="print the zebra invoice").located[0].path == "shop/mail.py"
    assert ContentTerms.objects.count() == kept + 1


def test_the_past_tells_what_words_do_not(code: Code) -> None:
    for number in range(40):
        code.commit(
            {"shop/prices.py": f"def price_of(item):\n    return item.price + {number}\n"}, "Fix quokka rounding"
        )
    code.index()
    found = files_locate(project=code.project, text="the quokka is rounded down")
    assert found.located[0].path == "shop/prices.py"
    assert any("quokka" in reason for reason in found.located[0].reasons)
    index = CodeIndex.objects.get(project=code.project)
    assert len(history_load(index_id=index.id).commits) == 41
    code.commit({"shop/prices.py": "def price_of(item):\n    return 0\n"}, "Mend numbat")
    code.index()
    assert files_locate(project=code.project, text="numbat").located[0].path == "shop/prices.py"
    assert CommitHistory.objects.get(index_id=index.id).commits == 42


def test_a_session_has_its_own_files(code: Code) -> None:
    session_id = uuid.uuid4()
    tree = tree_make(code, {"shop/wombat.py": "def wombat_feed():\n    pass\n"})
    code.index_session(session_id, tree)
    text = "feed the wombat"
    assert (
        files_locate(project=code.project, text=text, files=WorkFiles(session_id)).located[0].path == "shop/wombat.py"
    )
    assert "shop/wombat.py" not in {each.path for each in files_locate(project=code.project, text=text).located}


def test_a_map_fits_its_budget_and_is_drawn_towards_the_task(code: Code) -> None:
    made = repository_map_make(project=code.project, budget=60, text="receipt_send fails").map
    assert made.tokens == tokens_count(made.text) <= 60
    assert made.text.startswith("shop/mail.py:")
    whole = repository_map_make(project=code.project, budget=2_000).map
    assert "def price_of(item)" in whole.text
    assert whole.symbols + whole.left_out >= 8


def test_context_is_packed_with_sources_rules_and_neighbours(code: Code) -> None:
    made = context_pack(project=code.project, text="Basket.total() adds up wrongly", budget=1_500).packed
    assert made.tokens == tokens_count(made.text) <= 1_500
    kinds = {piece.kind: piece for piece in made.pieces}
    assert kinds["rules"].path == "AGENTS.md"
    assert any(piece.symbol == "Basket.total" and piece.kind == "hit" for piece in made.pieces)
    assert any(piece.symbol == "price_of" for piece in made.pieces)
    assert any(piece.path == "tests/test_basket.py" for piece in made.pieces)
    places = [(piece.path, piece.start_line) for piece in made.pieces if piece.start_line]
    assert len(places) == len(set(places))
    for piece in made.pieces:
        assert piece.source in made.text


def test_references_say_where_and_within_what(code: Code) -> None:
    view, _ = index_view(project=code.project)
    found = {(each.path, each.kind, each.within) for each in references_find(view=view, names=["price_of"])}
    assert ("shop/basket.py", "call", "Basket.total") in found
    assert ("shop/basket.py", "import", "") in found
    assert references_find(view=view, names=["no%such_name"]) == []


def test_duplicates_say_where(code: Code) -> None:
    body = "".join(f"    total_{number} = compute({number})\n" for number in range(9))
    code.commit({"shop/one.py": f"\n\ndef one():\n{body}", "shop/two.py": f"def two():\n{body}"})
    code.index()
    (found,) = client_for(code.user).get(f"/api/context/duplicates/?project={code.project.id}").json()["duplicates"]
    assert (found["first_path"], found["first_start"], found["first_end"]) == ("shop/one.py", 4, 12)
    assert (found["second_path"], found["second_start"], found["second_end"]) == ("shop/two.py", 2, 10)


def test_nothing_to_go_by_is_said(code: Code) -> None:
    with pytest.raises(InvalidInput):
        files_locate(project=code.project, text="  \n ")
    with pytest.raises(InvalidInput):
        files_locate(project=code.project, text="x" * 300_000)
    assert files_locate(project=code.project, text="ẞ🦘").located == ()


def test_agents_ask_by_tools(code: Code) -> None:
    session_id = uuid.uuid4()
    code.index_session(session_id, tree_make(code, {"shop/wombat.py": "def wombat_feed():\n    return price_of(1)\n"}))

    async def ask(tool_name: str, /, **arguments: Any) -> Observation:
        database = AsyncDatabase()
        knowledge = CodeKnowledge(database, project_id=code.project.id, session_id=session_id)
        context = cast(ToolContext, SimpleNamespace(code=knowledge, observation_limit=24_000))
        tool = tool_find(tool_name)
        assert tool is not None
        result = await tool.run(context, tool.arguments(**arguments))
        assert isinstance(result, Observation)
        return result

    def said(tool_name: str, /, **arguments: Any) -> str:
        result = asyncio.run(ask(tool_name, **arguments))
        assert result.ok
        return result.text

    located = said("locate", text="feed the wombat")
    assert located.startswith("shop/wombat.py")
    assert "1-2: function wombat_feed" in located
    assert "shop/basket.py:4-9: class Basket" in said("find_symbol", name="Basket")
    assert "return sum(price_of(i) for i in self.items)" in said("read_symbol", name="Basket.total")
    references = said("find_references", name="price_of()")
    assert "shop/wombat.py:2: call in wombat_feed" in references
    assert "shop/basket.py:9: call in Basket.total" in references
    assert "wombat_feed" in said("search_code", query="wombat", mode="text")
    assert "def price_of(item)" in said("repo_map", text="price_of")
    assert said("find_references", name="nothing_at_all").startswith("nothing uses")


def test_without_an_index_agents_are_told_another_way(tmp_path: Path) -> None:
    code = code_make(tmp_path, FILES)

    async def ask() -> Any:
        knowledge = CodeKnowledge(AsyncDatabase(), project_id=code.project.id, session_id=uuid.uuid4())
        context = cast(ToolContext, SimpleNamespace(code=knowledge, observation_limit=24_000))
        return await LOCATE.run(context, LocateArguments(text="anything"))

    told = asyncio.run(ask())
    assert not told.ok
    assert "`search`" in told.text


def test_what_is_kept_goes_with_the_project(code: Code) -> None:
    locating_prepare(project=code.project)
    assert CommitHistory.objects.exists()
    project_delete(project=code.project)
    terms_prune()
    assert not ContentTerms.objects.exists()
    assert not CommitHistory.objects.exists()


def test_the_api_shows_it_to_whom_it_belongs(code: Code) -> None:
    client = client_for(code.user)
    body = {"project": str(code.project.id), "text": "the basket's total is wrong"}
    found = client.post("/api/context/locate/", body)
    assert found.status_code == 200
    assert found.json()["located"][0]["path"] == "shop/basket.py"
    assert client.post("/api/context/map/", {"project": body["project"]}).json()["map"]["symbols"] > 0
    packed = client.post("/api/context/pack/", {**body, "budget": 500})
    assert packed.json()["tokens"] <= 500
    assert packed.json()["pieces"][0]["source"]
    stranger = client_for(user_make())
    for path in ("locate", "map", "pack"):
        assert stranger.post(f"/api/context/{path}/", body).status_code == 404
    other = code_make(Path(code.folder).parent / "other", {"a.py": "x = 1\n"}, user=code.user)
    other.index()
    session_id = uuid.uuid4()
    other.index_session(session_id, tree_make(other, {"b.py": "def secret(): pass\n"}))
    assert client.post("/api/context/locate/", {**body, "session": str(session_id)}).status_code == 404
