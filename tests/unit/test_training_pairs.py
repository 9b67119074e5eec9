"""What is learnt from: pairs of several languages, licences, the list of packages, and questions made of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.unit.training_archives import GO, PYTHON, TYPESCRIPT, wheel
from training.archives import UnreadableArchive, archive_about
from training.grammar_pairs import file_undocumented, grammar_pairs
from training.licences import debian_licence, is_permitted, npm_licence, wheel_licence
from training.manifest import FetchFailed, Package, package_fetch, packages_read
from training.mining import LicenceDiffers, package_mine, pairs_file, pairs_read
from training.packages import main as packages_main
from training.pairs import first_sentence, prose_of
from training.python_pairs import python_pairs
from training.questions import main as questions_main

pytestmark = pytest.mark.unit


def test_pairs_of_python_have_no_docstring() -> None:
    pairs = {pair.qualified_name: pair for pair in python_pairs(path="shop/basket.py", content=PYTHON.encode())}
    assert set(pairs) == {"Basket", "Basket.add"}
    assert pairs["Basket.add"].query == "Put one more item into it."
    assert "Longer words" in pairs["Basket.add"].prose and "Args" not in pairs["Basket.add"].prose
    assert '"""' not in pairs["Basket.add"].text and "self.items.append(item)" in pairs["Basket.add"].text
    # Of its methods a class has only how they begin.
    assert "def add" in pairs["Basket"].text and "append" not in pairs["Basket"].text


@pytest.mark.parametrize("content", [b"def broken(:\n  pass", b"\x00\x00", b"\xff\xfe\xff", b"(" * 5_000, b""])
def test_python_that_cannot_be_parsed_has_no_pairs(content: bytes) -> None:
    assert list(python_pairs(path="a.py", content=content)) == []


def test_pairs_of_other_languages_have_no_doc_comment() -> None:
    (upload,) = grammar_pairs(path="src/renderer.ts", content=TYPESCRIPT.encode())
    assert (upload.language, upload.qualified_name) == ("typescript", "Renderer.upload")
    assert upload.query == "Uploads a texture to the card, if it changed."
    assert "Uploads" not in upload.text and "not a doc comment" in upload.text
    (opened,) = grammar_pairs(path="store/open.go", content=GO.encode())
    # The name that Go's comments begin with would give the answer away.
    assert opened.query == "returns a store that keeps its rows in the folder"
    assert "keeps its rows" not in opened.text


def test_a_file_without_its_doc_comments_keeps_everything_else() -> None:
    made = file_undocumented(path="src/renderer.ts", content=TYPESCRIPT.encode())
    assert made.questions == (
        ("Draws the whole scene once.", "Renderer"),
        ("Uploads a texture to the card, if it changed.", "Renderer.upload"),
    )
    gone = set(TYPESCRIPT.splitlines()) - set(made.content.splitlines())
    assert all(line.strip().startswith(("/**", "*")) for line in gone) and len(gone) == 5


@pytest.mark.parametrize(
    ("comment", "name", "expected"),
    [
        ("Foo returns the bar of it. And more.", "Foo", "returns the bar of it"),
        ("Gets the {@link Bar thing} of <b>it</b>\n\n@returns x", "foo", "Gets the Bar thing of it"),
        ("@param x what it is", "foo", ""),
    ],
)
def test_first_sentence(comment: str, name: str, expected: str) -> None:
    assert first_sentence(comment, name=name) == expected


def test_prose_that_says_no_more_than_the_query_is_none() -> None:
    assert prose_of("Put it there.\n\nNow.", "Put it there.") == ""


@pytest.mark.parametrize(
    ("licence", "permitted"),
    [
        ("MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("OSI Approved :: BSD License", True),
        ("", False),
        ("LGPL-2.1-only", False),
        ("Apache-2.0 OR GPL-2.0-or-later", False),
        ("GNU General Public License v3", False),
        ("Proprietary", False),
        ("Whatever", False),
        ("MIT AND Whatever", False),
        ("MIT OR <unknown>", False),
        ("MIT License AND Copyright 2020 Someone", False),
        ("Apache License, Version 2.0", True),
        ("Apache Software License (Apache 2.0)", True),
        ("MIT No Attribution License (MIT-0)", True),
        ("Apache-2.0 WITH LLVM-exception or Apache-2.0 or MIT", True),
        ("The Unlicense (Unlicense)", True),
        ("BSD-like", False),
        ("MIT (with what we add)", False),
        ("(MIT or Whatever) AND MIT", False),
        ("Limited MITigation", False),
    ],
)
def test_licences(licence: str, permitted: bool) -> None:
    assert is_permitted(licence) is permitted


def test_licences_are_read_as_they_are_stated() -> None:
    assert wheel_licence("Name: a\nLicense-Expression: MIT\nLicense: x\n\nLicense: GPL") == "MIT"
    classified = "Name: a\nLicense: Copyright of someone\nClassifier: License :: OSI Approved :: BSD License\n"
    assert wheel_licence(classified) == "BSD License"
    assert wheel_licence("Name: a\nLicense: Apache 2.0\n") == "Apache 2.0"
    assert npm_licence('{"license": {"type": "ISC"}}') == "ISC"
    assert npm_licence("{}") == ""
    copyright_file = "Files: *\nCopyright: x\nLicense: Expat\n text\n\nFiles: debian/*\nLicense: GPL-2+\n"
    assert debian_licence(copyright_file) == "Expat"


def test_no_licence_of_a_debian_package_is_overlooked() -> None:
    many = "".join(f"Files: src/a{number}/*\nLicense: Expat{' ' * number}\n text\n\n" for number in range(20))
    long = "".join(
        f"Files: src/b{number}/*\nLicense: BSD-{number}-clause-and-words-that-are-many\n\n" for number in range(20)
    )
    for said, permitted in [
        (many, True),
        (many + "Files: src/core/*\nLicense: GPL-2+\n", False),
        (long + "Files: src/core/*\nLicense: GPL-2+\n", False),
        (many + "Files: debian/* src/core/*\nLicense: GPL-2+\n", False),
        (many + "Files: debian/*\n src/core/*\nLicense: GPL-2+\n", False),
        (many + "Files:\n debian/*\n debian/more\nLicense: GPL-2+\n", True),
        (many + "Files: src/core/*\nCopyright: someone\n", False),
        (many + "Files: src/core/*\nCopyright: someone\n\nLicense: GPL-2+\n text\n", False),
        (many + "Files: src/core/*\nCopyright: someone\n\nLicense: MIT\n text\n\nLicense: GPL-2+\n text\n", True),
        (many + "Files: a/*\n\nFiles: b/*\nLicense: MIT\n", False),
        (many + " \nFiles: src/core/*\nlicense: GPL-2+\n", False),
    ]:
        assert is_permitted(debian_licence(said)) is permitted, said[-80:]
    assert "GPL-2+" in debian_licence(long + "Files: src/core/*\nLicense: GPL-2+\n")


def test_an_archive_of_another_licence_than_the_list_says_is_not_learnt_from(tmp_path: Path) -> None:
    made = wheel(tmp_path, "shop", {"shop/basket.py": PYTHON}, licence="GPL-3.0-only")
    package = Package("pypi", "shop", "1.0", made.name, "0" * 64, "MIT")
    with pytest.raises(LicenceDiffers, match="GPL-3"):
        package_mine(package, made, tmp_path / "pairs")
    assert not pairs_file(package, tmp_path / "pairs").exists()


def test_the_list_of_packages_is_complete() -> None:
    packages = packages_read()
    assert len({(each.registry, each.name) for each in packages}) == len(packages) > 50
    for each in packages:
        assert is_permitted(each.licence), each.name
        assert len(each.sha256) == 64 and each.version and "/" not in each.file
    held_out = {each.name for each in packages if each.use == "evaluate"}
    assert "django" in held_out
    assert not [each.name for each in packages if "django" in each.name and each.use == "train"]


def test_archives_are_put_on_the_list_and_read_once(tmp_path: Path) -> None:
    good = wheel(tmp_path, "shop", {"shop/basket.py": PYTHON, "shop/tests/test_it.py": PYTHON})
    refused = wheel(tmp_path, "closed", {}, licence="GPL-3.0-only")
    (tmp_path / "no.whl").write_bytes(b"not a zip")
    listed = tmp_path / "packages.json"
    assert packages_main([str(good), str(refused), str(tmp_path / "no.whl"), "--list", str(listed)]) == 0
    (package,) = packages_read(listed)
    assert (package.registry, package.name, package.version, package.licence) == ("pypi", "shop", "1.0", "MIT")
    # It is where it would be fetched to, so nothing is fetched; and its hash is looked at all the same.
    assert package_fetch(package, tmp_path) == good
    assert package_mine(package, good, tmp_path / "pairs") == 2
    assert package_mine(package, good, tmp_path / "pairs") == -1
    assert {pair.path for pair in pairs_read(pairs_file(package, tmp_path / "pairs"))} == {"shop/basket.py"}
    with pytest.raises(FetchFailed, match="hash differs"):
        package_fetch(dataclasses.replace(package, sha256="0" * 64), tmp_path)
    with pytest.raises(UnreadableArchive):
        archive_about(tmp_path / "packages.json")


def test_questions_are_written_as_the_benchmarks_read_them(tmp_path: Path) -> None:
    made = wheel(tmp_path, "shop", {"shop/basket.py": PYTHON})
    assert questions_main([str(made), "--to", str(tmp_path / "out")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "shop.jsonl").read_text().splitlines()]
    assert {"query": "Put one more item into it.", "relevant_symbols": ["shop/basket.py::Basket.add"]} in lines
    assert '"""' not in (tmp_path / "out" / "shop" / "shop" / "basket.py").read_text()


def test_questions_are_written_within_their_folder_alone(tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere" / "absolute.py"
    made = wheel(
        tmp_path, "shop", {str(outside): PYTHON, "../up.py": PYTHON, "a/../../../far.py": PYTHON, "b.py": PYTHON}
    )
    assert questions_main([str(made), "--to", str(tmp_path / "out")]) == 0
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {made.name, "out/shop.jsonl", "out/shop/b.py"}
