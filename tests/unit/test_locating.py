"""From texts to files: what is read in an issue, what traces name, how files are ranked, what commits remember."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.context.locating.document import FileTerms, file_terms
from apps.context.locating.files_index import FilesIndex
from apps.context.locating.history import commits_of_log
from apps.context.locating.issue import issue_read
from apps.context.locating.kinds import is_code, is_test, worth
from apps.context.locating.locate import Located, locate
from apps.context.locating.memory import CommitMemory, MemoryTerms, MemoryView
from apps.context.locating.terms import stem, terms_of_text, terms_of_word
from apps.context.locating.traces import frames_of
from apps.context.parsing.parse import file_parse
from benchmarks import locate as bench

SHOP = {
    "shop/basket.py": "class Basket:\n    def total(self):\n        return sum(price_of(i) for i in self.items)\n",
    "shop/prices.py": "def price_of(item):\n    '''What an item costs.'''\n    return round_money(item.price)\n",
    "shop/mail.py": "def receipt_send(address):\n    return address\n",
    "shop/__init__.py": "from shop.basket import Basket\nfrom shop.prices import price_of\n",
    "web/src/cart.ts": "export function drawCart(basket: Basket) { return basket.total(); }\n",
    "server/Store.java": "package server;\npublic class Store { Item readItem(String key) { return null; } }\n",
    "tests/test_basket.py": "from shop.basket import Basket\n\n\ndef test_total():\n    assert Basket().total() == 0\n",
    "README.md": "# Shop\n\nBasket, total, price_of, receipts and all.\n",
}


def terms_make(path: str, text: str) -> FileTerms:
    parsed = file_parse(path=path, content=text.encode())
    return file_terms(language=parsed.language, chunks=parsed.chunks, symbols=parsed.symbols)


def index_make(files: Mapping[str, str]) -> FilesIndex:
    return FilesIndex({path: terms_make(path, text) for path, text in files.items()})


def ranked(text: str, files: Mapping[str, str] = SHOP, memory: MemoryView | None = None) -> list[Located]:
    return locate(files=index_make(files), memory=memory, text=text)


def test_identifiers_are_whole_and_in_parts() -> None:
    assert terms_of_word("getUserById") == ("getuserbyid", "get", "user", "id") or set(
        terms_of_word("getUserById")
    ) >= {
        "getuserbyid",
        "user",
        "id",
    }
    assert set(terms_of_word("HTTP_HEADER_SIZE")) >= {"http_header_size", "http", "header", "size"}
    assert stem("parsing") == stem("parsed") == stem("parses") == "pars"
    assert stem("queries") == "query"
    assert set(terms_of_text("the HTTPServer")) == {"httpserver", "http", "server"}


def test_an_issue_is_read_by_its_parts() -> None:
    text = """Basket total is wrong
<!-- please fill in the template -->
### Describe the bug
The `total` of Basket is off by one.

```python
basket.total()
```

Traceback (most recent call last):
  File "/app/shop/prices.py", line 3, in price_of
    return round_money(item.price)
### Environment
- zebra 1.2
See #1234 and 0123abc4567.
"""
    wanted = issue_read(text)
    assert wanted.weights["basket"] == max(wanted.weights.values())
    assert wanted.weights["basket"] >= 4 + 1 + 1
    assert "zebra" not in wanted.weights
    assert "templat" not in wanted.weights
    assert "describ" not in wanted.weights
    assert {"total", "round_money"} <= set(wanted.names)
    assert wanted.numbers == ("1234",)
    assert wanted.hashes == ("0123abc4567",)
    assert [(frame.path, frame.line, frame.function) for frame in wanted.frames] == [
        ("/app/shop/prices.py", 3, "price_of")
    ]


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ('  File "/a/b/shop.py", line 12, in total', "/a/b/shop.py", 12),
        ("tests/test_a.py:7: AssertionError", "tests/test_a.py", 7),
        ("    at Object.total (/app/src/cart.ts:3:15)", "/app/src/cart.ts", 3),
        ("    at /app/lib/cart.js:3:15", "/app/lib/cart.js", 3),
        ("\tat com.shop.server.Store.readItem(Store.java:42)", "com/shop/server/Store.java", 42),
        ("   at App.Store.Read(String key) in /src/App/Store.cs:line 9", "/src/App/Store.cs", 9),
        ("\t/home/x/shop/store.go:17 +0x1d", "/home/x/shop/store.go", 17),
        ("thread 'main' panicked at src/store.rs:12:5:", "src/store.rs", 12),
        ("  --> src/lib.rs:4:9", "src/lib.rs", 4),
        ("lib/shop/store.rb:12:in `read'", "lib/shop/store.rb", 12),
        ("#0 /srv/app/Store.php(12): App\\Store->read()", "/srv/app/Store.php", 12),
        ("PHP Fatal error: x in /srv/app/Store.php on line 3", "/srv/app/Store.php", 3),
        ("#1  0x00005555 in store_read (s=0x0) at src/store.c:42", "src/store.c", 42),
        ("src/store.c:42:5: error: expected ';'", "src/store.c", 42),
        ("src/cart.ts(3,15): error TS2322: no", "src/cart.ts", 3),
    ],
)
def test_places_in_traces_of_many_languages(text: str, path: str, line: int) -> None:
    assert (path, line) in {(frame.path, frame.line) for frame in frames_of(f"something went wrong\n{text}\n")}


def test_a_trace_leads_to_the_file_of_whatever_language() -> None:
    assert ranked("It fails\n\tat com.shop.server.Store.readItem(Store.java:42)")[0].path == "server/Store.java"
    assert ranked("It fails\n    at drawCart (/app/web/src/cart.ts:1:9)")[0].path == "web/src/cart.ts"
    assert ranked("It fails\nshop.mail breaks")[0].path == "shop/mail.py"


def test_names_and_words_lead_to_code_before_tests_and_texts() -> None:
    found = ranked("Basket.total() is wrong\nIt should use the price_of each item.")
    assert found[0].path == "shop/basket.py"
    assert found[0].functions[0].qualified_name == "Basket.total"
    assert any(reason.startswith("defines ") for reason in found[0].reasons)
    paths = [each.path for each in found]
    assert paths.index("tests/test_basket.py") > paths.index("shop/prices.py")
    assert paths.index("README.md") > paths.index("shop/prices.py")


def test_kinds_of_files() -> None:
    for path in ("tests/a.py", "src/a_test.go", "src/a.spec.ts", "src/test/java/ATest.java", "a/__tests__/b.js"):
        assert is_test(path), path
    for path in ("src/contest.py", "latest/a.go", "src/attestation.rs"):
        assert not is_test(path), path
    assert is_code("a.py", "python")
    assert not is_code("node_modules/a.js", "javascript")
    assert not is_code("a.md", "markdown")
    assert worth("tests/a.py", "python") <= 0.5


def test_terms_survive_being_stored() -> None:
    terms = terms_make("a.py", SHOP["shop/prices.py"])
    back = FileTerms.from_bytes(terms.to_bytes())
    assert (back.terms, back.places, back.defined) == (terms.terms, terms.places, terms.defined)
    assert back.fields.tolist() == terms.fields.tolist()
    assert back.chunks.tolist() == terms.chunks.tolist()
    stored = terms.to_bytes()
    for damaged in (b"", stored[:10], b"\xff" + stored[1:], stored[:-3], stored[:20] + b"x" + stored[21:]):
        with pytest.raises(ValueError, match=r"damaged|version"):
            FileTerms.from_bytes(damaged)


def test_nothing_is_found_where_nothing_is() -> None:
    assert ranked("total", {}) == []
    assert ranked("", SHOP) == []
    assert ranked("🦘🦘", SHOP) == []


@settings(max_examples=80, deadline=None)
@given(text=st.text(max_size=600))
def test_any_text_is_ranked(text: str) -> None:
    found = locate(files=_SHOP_INDEX, memory=None, text=text)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    for each in found:
        assert each.path in SHOP
        assert all(0 <= value <= 1 for value in each.signals.values())


_SHOP_INDEX = index_make(SHOP)


@pytest.mark.parametrize("piece", ["a", "a.", "a/", "aA", "A", "a_", "#1", "at ", "`", "(", " ", 'File "', "x(1,2): "])
def test_texts_made_to_be_slow_are_read(piece: str) -> None:
    """With a limit of CPU in a process of its own: a pattern that backtracks would not come back."""
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_CPU, (40, 40))
from apps.context.locating.issue import issue_read
issue_read({piece!r} * 60_000)
issue_read("title\\n" + {piece!r} * 900 + "7\\n" + {piece!r} * 60_000)
"""
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr[-1500:]


class Repository:
    """A git repository with a history."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "-q", "-b", "main")
        self.time = 1_700_000_000

    def git(self, *arguments: str) -> str:
        environment = {
            **os.environ,
            "GIT_AUTHOR_DATE": f"{getattr(self, 'time', 0)} +0000",
            "GIT_COMMITTER_DATE": f"{getattr(self, 'time', 0)} +0000",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
        }
        settings = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(
            ["git", *settings, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def read(self, arguments: Sequence[str]) -> bytes:
        return subprocess.run(["git", *arguments], cwd=self.folder, capture_output=True, check=True).stdout

    def commit(self, message: str, files: Mapping[str, str | None]) -> str:
        self.time += 86_400
        for path, text in files.items():
            target = self.folder / path
            if text is None:
                target.unlink()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture(name="repository")
def _repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path)
    repository.commit("Begin", SHOP)
    for number in range(40):
        repository.commit(
            f"Mend the quokka rounding, step {number}",
            {"shop/prices.py": SHOP["shop/prices.py"] + f"# {number}\n", "shop/mail.py": f"x = {number}\n"},
        )
    return repository


def view_make(repository: Repository, head: str, files: Mapping[str, str] = SHOP) -> MemoryView:
    memory = CommitMemory.empty()
    memory.grow(git=repository.read, heads=[head])
    return MemoryView(MemoryTerms(memory), head=head, files=index_make(files))


def test_past_commits_lead_where_words_do_not(repository: Repository) -> None:
    head = repository.git("rev-parse", "HEAD")
    found = ranked("the quokka is rounded down", memory=view_make(repository, head))
    assert {found[0].path, found[1].path} == {"shop/prices.py", "shop/mail.py"}
    assert any("quokka" in reason for reason in found[0].reasons)
    assert "shop/prices.py" not in {each.path for each in ranked("quokka")}


def test_a_view_has_ancestors_alone(repository: Repository) -> None:
    before = repository.git("rev-parse", "HEAD")
    repository.commit("Feed the numbat", {"shop/basket.py": "x = 1\n"})
    after = repository.git("rev-parse", "HEAD")
    memory = CommitMemory.empty()
    memory.grow(git=repository.read, heads=[after])
    words = MemoryTerms(memory)
    files = index_make(SHOP)
    assert len(words.ancestors(after)) == len(words.ancestors(before)) + 1
    early, late = (MemoryView(words, head=head, files=files) for head in (before, after))
    assert locate(files=files, memory=early, text="numbat") == []
    assert locate(files=files, memory=late, text="numbat")[0].path == "shop/basket.py"


def test_renames_are_followed(repository: Repository) -> None:
    repository.commit("Move", {"shop/prices.py": None, "shop/costs.py": SHOP["shop/prices.py"] + "# 39\n"})
    head = repository.git("rev-parse", "HEAD")
    files = {**{k: v for k, v in SHOP.items() if k != "shop/prices.py"}, "shop/costs.py": SHOP["shop/prices.py"]}
    found = ranked("the quokka is rounded down", files, view_make(repository, head, files))
    assert "shop/costs.py" in {each.path for each in found[:2]}


def test_cited_commits_and_issues_lead_to_their_files(repository: Repository) -> None:
    sha = repository.commit("Draw it again (#4711)\n\nSigned-off-by: A <a@example.org>", {"web/src/cart.ts": "// x\n"})
    view = view_make(repository, sha)
    assert ranked("A regression since #4711", memory=view)[0].path == "web/src/cart.ts"
    assert ranked(f"Broken since {sha[:10]}", memory=view)[0].path == "web/src/cart.ts"
    assert "Signed-off" not in view.commits[-1].message


def test_a_memory_grows_by_what_is_new_and_survives_being_stored(repository: Repository) -> None:
    head = repository.git("rev-parse", "HEAD")
    memory = CommitMemory.empty()
    assert memory.grow(git=repository.read, heads=[head]) == 41
    assert memory.grow(git=repository.read, heads=[head]) == 0
    back = CommitMemory.from_bytes(memory.to_bytes())
    assert back == memory
    new = repository.commit("One more", {"shop/mail.py": "y\n"})
    assert back.grow(git=repository.read, heads=[new]) == 1
    assert back.commits[-1].message == "One more"
    words = MemoryTerms(back)
    assert len(words.ancestors(new)) == 42
    for damaged in (b"", memory.to_bytes()[:20], b"\x00" + memory.to_bytes()[1:]):
        with pytest.raises(ValueError, match=r"damaged|version"):
            CommitMemory.from_bytes(damaged)


def test_strange_logs_are_read_as_far_as_they_go() -> None:
    assert commits_of_log(b"") == []
    assert commits_of_log(b"\x01not a commit\x02") == []
    sha = b"a" * 40
    log = b"\x01" + sha + b"\x00\x00" + b"17\x00caf\xe9 \x00\x02\nM\x00a.py\x00R100\x00b.py\x00c.py\x00D\x00d.py\x00"
    (commit,) = commits_of_log(log)
    assert commit.files == ("a.py", "c.py")
    assert commit.renames == (("b.py", "c.py"),)


def test_the_benchmark_reports_recall(
    repository: Repository, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    head = repository.git("rev-parse", "HEAD")
    instances = tmp_path / "instances.jsonl"
    lines = [
        {"repo": str(tmp_path), "commit": head, "text": "Basket.total is wrong", "relevant": ["shop/basket.py"]},
        {"repo": str(tmp_path), "commit": head, "text": "quokka", "relevant": ["nowhere.py"]},
        {"repo": str(tmp_path), "commit": "0" * 40, "text": "quokka", "relevant": ["nowhere.py"]},
    ]
    instances.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert bench.main(["--instances", str(instances), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["instances"] == 2
    assert len(report["failed"]) == 1
    assert report["recall_at_1"] == report["mrr"] == 0.5
    assert {"recall_at_5", "recall_at_10", "recall_at_20", "index_s", "p50_ms", "p95_ms"} <= set(report)
    instances.write_text('{"repo": "x"}\n')
    assert bench.main(["--instances", str(instances)]) == 2


def test_the_benchmark_measures_the_titles_vector_in_the_same_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    head = Repository(tmp_path).commit("Begin", SHOP)
    instances = tmp_path / "instances.jsonl"
    text = (
        "# Email message to customers\n\nBasket.total of shop/basket.py has the sum of its items, the basket's total."
    )
    line = {"repo": str(tmp_path), "commit": head, "text": text, "relevant": ["shop/mail.py"]}
    instances.write_text(json.dumps(line) + "\n")

    def measured(*more: str) -> dict[str, Any]:
        assert bench.main(["--instances", str(instances), "--json", *more]) == 0
        report: dict[str, Any] = json.loads(capsys.readouterr().out)
        return report

    without = measured()
    assert without["mrr"] < 1
    assert without["with_vectors"] is None
    nothing, much = measured("--vectors", "0"), measured("--vectors", "100")
    assert nothing["mrr"] == nothing["with_vectors"]["mrr"] == much["mrr"] == without["mrr"]
    assert (nothing["with_vectors"]["better"], nothing["with_vectors"]["worse"]) == (0, 0)
    assert much["with_vectors"]["recall_at_1"] == much["with_vectors"]["mrr"] == 1
    assert (much["with_vectors"]["better_at_1"], much["with_vectors"]["worse_at_1"]) == (1, 0)
