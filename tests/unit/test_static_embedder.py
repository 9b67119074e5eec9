"""What archon-static promises: the same text has the same vector, of length one, whatever the text is."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.context.parsing.types import chunk_header
from integrations.embedders import static
from integrations.embedders.errors import EmbedderMissing
from integrations.embedders.static.fields import FIELDS, FIRST_BODY, text_fields, text_words
from integrations.embedders.static.model import FORMAT, StaticModel
from integrations.embedders.static.stems import STOP_WORDS, WORD, Vocabulary, stem, word_stems

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def model() -> StaticModel:
    return StaticModel(static.model_folder())


@pytest.mark.parametrize(
    ("word", "stems"),
    [
        ("parseHTTPHeaders", ["pars", "http", "header"]),
        ("get_user_by_id", ["get", "user", "id"]),
        ("XMLHttpRequest", ["xml", "http", "request"]),
        ("__init__", ["init"]),
        ("queries", ["query"]),
        ("creating", ["creat"]),
        ("self", []),
        ("x", []),
        ("a" * 30, []),
    ],
)
def test_stems(word: str, stems: list[str]) -> None:
    assert word_stems(word) == stems


@given(st.text(alphabet=st.characters(codec="ascii", categories=["L", "N", "Pc"]), max_size=60))
def test_stems_are_lower_case_and_say_something(word: str) -> None:
    for each in word_stems(word):
        assert each == each.lower() and each.isalpha() and each not in STOP_WORDS - {stem(each)}


@pytest.mark.parametrize("family", [("create", "creates", "created", "creating"), ("class", "classes")])
def test_endings_do_not_matter(family: tuple[str, ...]) -> None:
    assert len({stem(word) for word in family}) == 1


def test_an_unknown_stem_is_cut_into_known_pieces() -> None:
    vocabulary = Vocabulary(["data", "base", "databas", "pool"])
    assert vocabulary["databases"] == (2,)
    assert vocabulary["datapool"] == (0, 3)
    assert vocabulary["zzz"] == ()


def test_fields_are_those_of_a_chunks_header() -> None:
    header = chunk_header(path="apps/shop/basket.py", qualified_name="Basket.Line.add")
    assert text_fields(f"{header}\nbody\nmore") == ("add", "Basket.Line", "apps/shop/basket", "body\nmore")
    assert text_fields(f"{chunk_header(path='a.py', qualified_name='')}\nbody") == ("", "", "a", "body")
    assert text_fields("what people write. And more") == ("", "", "", "what people write. And more")
    assert text_fields("") == ("", "", "", "")


def test_words_are_told_apart_by_where_they_stand() -> None:
    text = (
        "shop/basket.py Basket.add\ndef add(item):\n    # keep what is chosen\n    total = price(item)\n"
        "    log('one more: %s', item)\n    return total"
    )
    told = dict(zip(FIELDS, text_words(text), strict=True))
    assert told == {
        "name": ["add"],
        "qualifier": ["Basket"],
        "path": ["shop", "basket"],
        "signature": ["def", "add", "item"],
        "call": ["price", "log"],
        "prose": ["keep", "what", "is", "chosen", "one", "more", "s"],
        "body": ["total", "item", "item", "return", "total"],
    }
    assert dict(zip(FIELDS, text_words("any (text) 'of people'"), strict=True))["prose"] == [
        "any",
        "text",
        "of",
        "people",
    ]


@settings(deadline=None)
@given(st.text(alphabet="ab_1 \n\t\"'`#/*(){}.,\\", max_size=200))
def test_no_word_is_lost_or_counted_twice(text: str) -> None:
    found = [word for words in text_words(f"a.py f\n{text}")[FIRST_BODY:] for word in words]
    assert sorted(found) == sorted(WORD.findall(text))


KINDS: tuple[static.EmbedKind, ...] = ("document", "query")
HOSTILE = [
    "",
    " ",
    "\x00",
    "a\x00b.py f\n\x00",
    "日本語だけ",
    "\ud800",
    "???",
    "x" * 5_000_000,
    "_" * 100_000,
    "a b " * 500_000,
    "a.py f\n\n" + "/*" * 5_000,
    "a.py f\n\n" + "\"'" * 5_000,
    "a.py f\n\n" + '"""' * 3_000,
]


@pytest.mark.parametrize("kind", ["document", "query"])
def test_any_text_has_a_vector_of_length_one(model: StaticModel, kind: static.EmbedKind) -> None:
    made = model.embed(HOSTILE, kind=kind)
    assert made.shape == (len(HOSTILE), static.DIMENSION) and made.dtype == np.float32
    assert np.isfinite(made).all()
    assert np.linalg.norm(made, axis=1) == pytest.approx(1, abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=300), max_size=8))
def test_a_text_has_the_same_vector_in_any_company(texts: list[str]) -> None:
    model = StaticModel(static.model_folder())
    together = model.embed(texts, kind="document")
    for text, row in zip(texts, together, strict=True):
        assert np.array_equal(model.embed([text], kind="document")[0], row)


def test_what_is_behind_the_limit_is_not_read(model: StaticModel) -> None:
    text = "a.py f\n" + "parse the header " * 1_000
    cut = model.embed([text, text + "database table row"], kind="document")
    assert np.array_equal(cut[0], cut[1])


def test_many_texts_are_as_one_by_one(model: StaticModel) -> None:
    texts = [f"src/a{number}.py read{number}\nreturn open(path{number}).read()" for number in range(300)]
    assert np.array_equal(model.embed(texts, kind="document")[-1], model.embed(texts[-1:], kind="document")[0])


def test_threads_get_the_same(model: StaticModel) -> None:
    texts = [f"src/file{number}.py Class.method{number}\nreturn self.thing{number}(x)" for number in range(200)]
    expected = model.embed(texts, kind="document")
    fresh = StaticModel(static.model_folder())
    wrong = []

    def run() -> None:
        if not np.array_equal(fresh.embed(texts, kind="document"), expected):
            wrong.append(1)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_it_knows_what_code_does(model: StaticModel) -> None:
    codes = [
        "net/mail.py send\ndef send(to, text):\n    server = smtplib.SMTP(HOST)\n    server.sendmail(ME, to, text)",
        "ui/canvas.py Canvas.line\ndef line(self, a, b):\n    for x, y in path(a, b):\n        self.pixels[y][x] = 1",
        "db/rows.py insert\ndef insert(table, row):\n    cursor.execute(sql(table), row)\n    connection.commit()",
    ]
    asked = ["deliver an email message", "draw a line of pixels", "write a record to the database"]
    found = model.embed(asked, kind="query") @ model.embed(codes, kind="document").T
    assert found.argmax(1).tolist() == [0, 1, 2]


def test_the_shipped_model_is_whole_and_small() -> None:
    folder = static.model_folder()
    description = json.loads((folder / "model.json").read_text())
    assert (description["version"], description["dimension"]) == (static.VERSION, static.DIMENSION)
    for name, told in description["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == told, name
    assert sum(path.stat().st_size for path in folder.iterdir()) < 10_000_000
    assert {path.name for path in folder.iterdir()} == {"model.json", *description["sha256"]}
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    assert vectors.dtype == np.int8 and len(vectors) == len((folder / "stems.tsv").read_text().splitlines())


def test_a_model_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbedderMissing):
        StaticModel(tmp_path)
    broken = tmp_path / "model"
    shutil.copytree(static.model_folder(), broken)
    with (broken / "stems.tsv").open("a") as file:
        file.write("more\t1\n")
    with pytest.raises(EmbedderMissing, match="not whole"):
        StaticModel(broken)
    (broken / "vectors.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(EmbedderMissing, match="cannot be read"):
        StaticModel(broken)


def _truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _without_a_field(content: bytes) -> bytes:
    told = json.loads(content)
    del told["fields"]["call"]
    return json.dumps(told).encode()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.json", lambda _: b""),
        ("model.json", lambda _: b"[]"),
        ("model.json", lambda _: b"\xff\xfe"),
        ("model.json", _truncated),
        ("model.json", _without_a_field),
        ("model.json", lambda content: content.replace(b'"version"', b'"edition"')),
        ("model.json", lambda content: content.replace(b'"dimension": 256', b'"dimension": null')),
        ("model.json", lambda content: content.replace(b'"name": ', b'"name": 1e999, "x": ')),
        ("stems.tsv", lambda _: b"\xff"),
        ("stems.tsv", _truncated),
        ("weights.npy", lambda _: b""),
        ("weights.npy", _truncated),
        ("weights.npy", lambda _: b"PK\x03\x04"),
        ("weights.npy", lambda content: content[:-8] + b"\x00\x7e" * 4),
        ("vectors.npy", lambda _: b""),
        ("vectors.npy", _truncated),
    ],
)
def test_whatever_is_wrong_with_a_model_it_is_said_to_be_missing(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(static.model_folder(), folder)
    content = (folder / name).read_bytes()
    damaged = damage(content)
    assert damaged != content
    (folder / name).write_bytes(damaged)
    with pytest.raises(EmbedderMissing) as refused:
        StaticModel(folder)
    assert "ARCHON_EMBEDDER" in refused.value.next_step


@pytest.mark.parametrize("told", [None, 0, FORMAT + 1, str(FORMAT)])
def test_a_model_that_was_made_for_another_reader_is_refused(tmp_path: Path, told: object) -> None:
    folder = tmp_path / "model"
    shutil.copytree(static.model_folder(), folder)
    description = json.loads((folder / "model.json").read_text())
    description["format"] = told
    if told is None:
        del description["format"]
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(EmbedderMissing, match="format"):
        StaticModel(folder)


def test_words_that_are_data_are_not_kept() -> None:
    vocabulary = Vocabulary(["data"])
    for number in range(50):
        assert vocabulary[f"data_{number}_" + "f" * 8_000] == (0,)
    assert vocabulary["data_row"] == (0,)
    assert list(vocabulary) == ["data_row"]


#: By version of the model: what reading makes of :data:`GOLDEN_TEXTS` and of made-up words, and the first numbers of
#: the texts' vectors. They are added to, never changed: where they differ, vectors in databases are no longer what
#: the model would make of their texts, and ``VERSION`` (with another reader, ``FORMAT`` too) has to say so.
GOLDEN: dict[str, tuple[str, list[list[float]]]] = {
    "3": (
        "2681241587bc2c63",
        [
            [0.0361, 0.0568, 0.1799, 0.1276, -0.0134, -0.0453],
            [0.1038, -0.0293, 0.0661, 0.0133, 0.1863, 0.0151],
            [0.0985, -0.0098, -0.0023, 0.1832, -0.0845, -0.1169],
            [0.1613, 0.1342, -0.0002, -0.1748, -0.0591, -0.0114],
            [0.0524, 0.0556, 0.1704, 0.1481, -0.0324, -0.0514],
            [0.0979, -0.0007, 0.1118, 0.0036, 0.1345, 0.0714],
            [0.0933, -0.0146, -0.0058, 0.1762, -0.0854, -0.1103],
            [0.1556, 0.1274, 0.0083, -0.178, -0.0662, -0.0125],
        ],
    )
}
GOLDEN_TEXTS = (
    "net/mail.py Mailer.send\ndef send(self, to, text):\n    # relay\n    server.send(ME, [to or 'nobody'], text)",
    "src/ui/canvas.ts\n/** Draws once. */\nexport class CanvasRenderer { drawLine(a: Point) { this.ctx.lineTo(a.x) } }",
    "parse the HTTP headers of a response, and keep unparsable ones",
    "untersuchung zzqx_datapools404 fooBARBaz",
)


def _reading() -> str:
    """A digest of how texts are read, endings, shapes of words and fields."""
    bases = "pars", "quer", "clas", "us", "bas", "addr", "analys", "x", "HTTPServ", "utf8Nam", "snake_cas", "CONST_VAL"
    endings = "", "e", "es", "s", "ss", "y", "ies", "ed", "ing", "ings", "ering", "us", "er"
    words = [base + (ending.upper() if base.isupper() else ending) for base in bases for ending in endings]
    read = [word_stems(word) for word in words], [text_words(text) for text in GOLDEN_TEXTS], sorted(STOP_WORDS), FIELDS
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()[:16]


def test_vectors_are_those_of_their_version(model: StaticModel) -> None:
    assert static.VERSION in GOLDEN, "a new version's numbers are written down once, and never again"
    reading, numbers = GOLDEN[static.VERSION]
    assert _reading() == reading
    made = [row for kind in KINDS for row in model.embed(GOLDEN_TEXTS, kind=kind)[:, :6]]
    assert np.array(made) == pytest.approx(np.array(numbers), abs=1e-3)
