"""Which words ask for a class, learnt from archives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apps.context.searching.asked import asked_read
from tests.unit.training_archives import wheel
from training import kinds
from training.manifest import Package, packages_write
from training.packages import main as packages_main
from training.pairs import Pair
from training.resembling import Evaluated

pytestmark = pytest.mark.unit


CLASSES = ("A shelf that keeps", "Base class for", "Represents one of")
FUNCTIONS = ("Return all of", "Create one more of", "Tell whether there is any of")
THINGS = ("books", "letters", "stamps", "coins", "plates", "shells", "stones", "cards")


def kinds_archive(folder: Path) -> Path:
    """A list of one package with as many classes as functions, and its archive where it would be fetched to."""
    code = [
        f'class C{number}{thing}:\n    """{said} {thing}."""\n\n    one_{thing} = {number}\n    two_{number} = 2\n'
        for number, said in enumerate(CLASSES)
        for thing in THINGS
    ] + [
        f'@wrap(\n    "class"\n)\ndef f{number}{thing}(it):\n    """{said} {thing}."""\n    return it[{number}]\n'
        for number, said in enumerate(FUNCTIONS)
        for thing in THINGS
    ]
    (folder / "cache" / "archives").mkdir(parents=True)
    made = wheel(folder / "cache" / "archives", "shop", {"shop/all.py": "\n\n".join(code)})
    listed = folder / "packages.json"
    assert packages_main([str(made), "--list", str(listed)]) == 0
    return listed


def test_words_that_ask_for_a_class_are_learnt_from_archives(tmp_path: Path) -> None:
    listed, out = kinds_archive(tmp_path), tmp_path / "asked.json"
    run = ["--list", str(listed), "--cache", str(tmp_path / "cache"), "--processes", "1", "--min-questions", "4"]
    run += ["--min-language", "10"]
    assert kinds.main([*run, "--out", str(out)]) == 0
    asked = asked_read(out)
    assert min(asked.words["first"][word] for word in ("a", "base", "represents")) > 0
    assert max(asked.words["first"][word] for word in ("return", "create", "tell")) < 0
    # What classes and functions have alike says little.
    assert max(abs(asked.words["anywhere"].get(thing, 0)) for thing in THINGS) < 0.5
    told = json.loads(out.read_text())["made_of"]
    assert (told["questions"], told["classes"]) == (48, 24)
    # The same again is the same, to the byte; and fewer words are those that say most.
    before = out.read_bytes()
    assert kinds.main([*run, "--out", str(out)]) == 0
    assert out.read_bytes() == before
    assert kinds.main([*run, "--words", "6"]) == 0
    few = asked_read(tmp_path / "cache" / "asked.json").words
    assert sum(map(len, few.values())) == 6
    assert not any(thing in few["anywhere"] for thing in THINGS)


def test_without_questions_about_classes_nothing_is_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = tmp_path / "packages.json"
    packages_write([], listed)
    assert kinds.main(["--list", str(listed), "--cache", str(tmp_path / "cache")]) == 1
    assert "no questions about both" in capsys.readouterr().err
    assert not (tmp_path / "cache" / "asked.json").exists()


@pytest.mark.parametrize(
    ("language", "code", "told"),
    [
        ("python", "@wrap(\n    class_of=1\n)\nasync def f():\n    class A: ...", False),
        ("python", "@dataclass\nclass A:\n    def f(self): ...", True),
        ("rust", "#[derive(Debug)]\n// said\npub(crate) struct A<T> {", True),
        ("rust", "    pub async fn f(&self) -> A {", False),
        ("go", "type Store struct {", True),
        ("go", "func (s *Store) typed(a int) error {", False),
        ("typescript", "export default abstract class A {", True),
        ("typescript", "  @type() interfaceOf(a: A) {", False),
        ("javascript", "function classOf(a) {", False),
        ("javascript", "// nothing else", False),
    ],
)
def test_what_a_pair_is_about(language: str, code: str, told: bool) -> None:
    assert kinds.is_class(Pair(language, "a question of some words", "", "a", "A", code)) is told


def test_words_of_what_is_evaluated_on_are_not_learnt() -> None:
    package = Package("pypi", "toy", "1", "toy.whl", "0" * 64, "MIT")
    pairs = [
        Pair("python", "keep all of the rows", "", "a.py", "F", "class F:\n    a = load\n    b = rows"),
        Pair("python", "nobody knows this one at all", "", "b.py", "h", "def h():\n    a = 1\n    return 2"),
        Pair("rust", "another language says it here", "", "c.rs", "G", "pub struct G {\n    a: u8,\n}"),
    ]
    evaluated = Evaluated()
    evaluated.add(pairs[0]._replace(query="Keeps ALL of the rows.", text="other()"))
    found = kinds.questions_read(
        [(package, pairs)], evaluated=evaluated, recipe=kinds.KindsRecipe(min_language=1), tell=lambda message: None
    )
    assert found == [
        kinds.Question("python", "nobody knows this one at all", is_class=False),
        kinds.Question("rust", "another language says it here", is_class=True),
    ]
