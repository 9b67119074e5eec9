"""Search: what is found by words, name and pattern, held against the files; and never somebody else's."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from apps.context.models import CodeIndex
from apps.context.searching.projects import projects_search
from apps.context.types import IndexMissing, SearchFilters, SearchMode, SearchRequest
from apps.core.errors import ApplicationError, InvalidInput, NotFound
from apps.projects.models import Project
from apps.projects.worktree import worktree_path
from tests.api import user_make
from tests.integration.context_scene import FILES, Code, code_make, files_write, tree_make

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def code(tmp_path: Path, settings: object) -> Code:
    settings.ARCHON_EMBEDDER = "off"  # type: ignore[attr-defined]
    made = code_make(tmp_path)
    made.index()
    return made


def test_a_hit_names_path_lines_symbol_and_commit(code: Code) -> None:
    hit = code.search("greeting for one person").hits[0]
    assert (hit.path, hit.symbol, hit.kind) == ("greeting/people.py", "Greeter.greet_person", "method")
    lines = (code.folder / hit.path).read_text().split("\n")
    assert "greet_person" in "\n".join(lines[hit.start_line - 1 : hit.end_line])
    assert hit.snippet.text.split("\n") == lines[hit.snippet.start_line - 1 :][: hit.snippet.text.count("\n") + 1]
    assert hit.commit == code.project.head_commit and not hit.moved


@pytest.mark.parametrize("query", ["parseHTTPHeader", "parse_http_header", "parse http header", "HTTPHeader parse"])
def test_words_of_names_are_found_however_they_are_written(code: Code, query: str) -> None:
    assert code.search(query).hits[0].symbol == "parseHTTPHeader"


@pytest.mark.parametrize(
    ("query", "symbol"),
    [
        ("Greeter", "Greeter"),
        ("greeter", "Greeter"),
        ("greet_person", "Greeter.greet_person"),
        ("Greeter.greet_person", "Greeter.greet_person"),
        ("Greeter::greet_person()", "Greeter.greet_person"),
        ("greeting.people.Greeter", "Greeter"),
        ("parsehttp", "parseHTTPHeader"),
        ("http header", "parseHTTPHeader"),
    ],
)
def test_symbols_are_found_by_name(code: Code, query: str, symbol: str) -> None:
    assert code.search(query, "symbol").hits[0].symbol == symbol


def test_what_has_no_name_is_no_symbol(code: Code) -> None:
    assert code.search("nothing_like_it_anywhere", "symbol").hits == ()
    assert code.search("...", "symbol").hits == ()
    assert code.search("%", "symbol").hits == ()


def test_patterns_find_lines(code: Code) -> None:
    hits = code.search(r"def \w+_person\(", "regex").hits
    assert [(hit.path, hit.line) for hit in hits] == [("greeting/people.py", 9)]
    # Parts of words, letters of either case, no word at all.
    assert code.search(r"TTPHead", "regex").hits[0].symbol == "parseHTTPHeader"
    assert code.search(r"(?i)ttphead", "regex").hits[0].symbol == "parseHTTPHeader"
    assert {hit.path for hit in code.search(r"^#+ ", "regex").hits} == {"README.md"}
    assert code.search(r"zebra\s+stripes|nowhere", "regex").hits[0].path == "README.md"
    assert code.search(r"zzzz", "regex").hits == ()


def test_bad_patterns_are_told_and_costly_ones_are_not_costly(code: Code) -> None:
    for pattern in ("(unclosed", r"(?=look)", "x" * 1_001):
        with pytest.raises(InvalidInput) as told:
            code.search(pattern, "regex")
        assert told.value.next_step
    assert code.search(r"(a+)+(a+)+(a+)+b$", "regex").hits == ()


def test_filters_leave_what_they_say(code: Code) -> None:
    def paths(**filters: tuple[str, ...]) -> set[str]:
        return set(code.paths("greet person greets people main", filters=SearchFilters(**filters)))

    assert paths(paths=("*.md",)) == {"README.md"}
    assert paths(paths=("greeting/**",)) <= {"greeting/people.py", "greeting/main.py"}
    assert paths(languages=("markdown",)) == {"README.md"}
    assert paths(languages=("cobol",)) == set()
    assert paths(kinds=("method",)) == {"greeting/people.py"}
    found = code.search("greet", "symbol", filters=SearchFilters(kinds=("class",))).hits
    assert [hit.symbol for hit in found] == ["Greeter"]
    assert code.paths("zebra", "regex", filters=SearchFilters(paths=("*.py",))) == []
    with pytest.raises(InvalidInput):
        paths(paths=("{a,b",))


def test_scores_are_explained_when_asked_for(code: Code) -> None:
    hit = code.search("parse http header", explain=True).hits[0]
    assert set(hit.scores["terms"]) == {"parse", "http", "header"}
    assert sum(hit.scores["terms"].values()) == pytest.approx(hit.score, rel=1e-3)
    assert code.search("parse http header").hits[0].scores == {}


@pytest.mark.parametrize("query", ["", "   \n", "x" * 20_001])
def test_queries_that_say_nothing_or_too_much_are_refused(code: Code, query: str) -> None:
    with pytest.raises(InvalidInput) as told:
        code.search(query)
    assert told.value.next_step


@pytest.mark.parametrize(
    "query",
    ["\0", "'; DROP TABLE x; --", "%s %(x)s", "\ud800", "()[]{}", "the of and", "é" * 500, "🦓", "a" * 10_000],
)
@pytest.mark.parametrize("mode", ["text", "symbol", "hybrid"])
def test_odd_queries_have_an_answer(code: Code, query: str, mode: str) -> None:
    code.search(query, mode)  # type: ignore[arg-type]


def test_a_long_query_finds_what_it_names(code: Code) -> None:
    noise = " ".join(f"unheard{number}of" for number in range(800))
    assert code.search(f"{noise} parseHTTPHeader continuation").hits[0].symbol == "parseHTTPHeader"


def test_without_vectors_hybrid_is_text_and_says_so(code: Code) -> None:
    found = code.search("parse http header", "hybrid")
    assert found.hits[0].symbol == "parseHTTPHeader"
    assert found.notes and found.index.vectors == "off"
    assert code.search("parse http header", "vector").hits == ()


def test_what_moved_is_found_where_it_is_and_what_is_gone_is_not_said(code: Code) -> None:
    code.commit(
        {
            "greeting/people.py": "# one\n# two\n# three\n" + str(FILES["greeting/people.py"]),
            "README.md": "# Sample\n\nAll else is gone.\n",
        }
    )
    found = code.search("parse http header")
    assert found.index.lagging and found.notes
    hit = found.hits[0]
    assert hit.moved and hit.commit == code.project.head_commit
    assert "parseHTTPHeader" in (code.folder / hit.path).read_text().split("\n")[hit.start_line - 1]
    gone = code.search("zebra stripes")
    assert gone.hits == () and gone.stale == 1
    code.commit({"greeting/people.py": None})
    assert code.search("parse http header").hits == ()
    code.index()
    assert not code.search("greet").index.lagging


def test_a_sessions_hits_are_held_against_its_checkout(code: Code) -> None:
    session_id = uuid.uuid4()
    tree = tree_make(code, {"greeting/main.py": "def flamingo():\n    return 1\n"})
    code.index_session(session_id, tree)
    checkout = worktree_path(session_id=session_id)
    checkout.mkdir(parents=True)
    files = {**FILES, "greeting/main.py": "import os\n\n\ndef flamingo():\n    return 1\n", "README.md": "gone\n"}
    files_write(checkout, files)
    # A link that leads out is nothing that the session has.
    (checkout / "greeting" / "people.py").unlink()
    (checkout / "greeting" / "people.py").symlink_to("/etc/passwd")
    hit = code.search("flamingo", session_id=session_id).hits[0]
    assert hit.moved and (hit.start_line, hit.snippet.text.split("\n")[0]) == (4, "")
    assert code.search("zebra stripes", session_id=session_id).stale == 1
    assert code.search("parse http header", session_id=session_id).hits == ()


def test_somebody_elses_code_is_never_found(code: Code, tmp_path: Path) -> None:
    stranger = user_make()
    other = code_make(tmp_path / "other", {"own.py": "def zebra_of_mine():\n    return 1\n"}, user=stranger)
    other.index()
    request = SearchRequest(query="zebra", mode="text")
    mine = projects_search(user=stranger, project_id=None, session_id=None, request=request)
    assert {hit.project_id for hit in mine.hits} == {other.project.id}
    with pytest.raises(NotFound):
        projects_search(user=stranger, project_id=code.project.id, session_id=None, request=request)
    session_id = uuid.uuid4()
    code.index_session(session_id, tree_make(code, {"hidden.py": "def zebra_hidden():\n    return 1\n"}))
    modes: tuple[SearchMode, ...] = ("text", "symbol", "regex")
    for mode in modes:
        asked = SearchRequest(query="zebra_hidden", mode=mode)
        with pytest.raises(NotFound):
            projects_search(user=stranger, project_id=other.project.id, session_id=session_id, request=asked)
        own = projects_search(user=code.user, project_id=None, session_id=None, request=asked)
        assert "hidden.py" not in [hit.hit.path for hit in own.hits]


def test_all_of_ones_projects_are_searched_when_none_is_named(code: Code, tmp_path: Path) -> None:
    other = code_make(tmp_path / "other", {"own.py": "def zebra_of_mine():\n    return 1\n"}, user=code.user)
    other.index()
    request = SearchRequest(query="zebra", mode="text")
    found = projects_search(user=code.user, project_id=None, session_id=None, request=request)
    assert {hit.hit.path for hit in found.hits} == {"README.md", "own.py"}
    assert len(found.indexes) == 2


def test_before_anything_was_indexed(tmp_path: Path) -> None:
    code = code_make(tmp_path)
    with pytest.raises(IndexMissing) as told:
        code.search("anything")
    assert told.value.status == 409 and told.value.next_step
    with pytest.raises(ApplicationError):
        projects_search(user=code.user, project_id=None, session_id=None, request=SearchRequest(query="x", mode="text"))


def test_while_the_first_commit_is_read_what_is_there_is_found(code: Code) -> None:
    CodeIndex.objects.update(complete=False)
    found = code.search("parse http header")
    assert found.hits and found.index.lagging
    Project.objects.update(head_commit="")
    code.project.refresh_from_db()
    assert code.search("parse http header").hits
