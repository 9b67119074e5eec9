"""Links between documents lead somewhere, headings included; paths of the repository that they name are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
#: Top folders of the repository; a path in backticks that begins with one of them is meant to be there.
TOP = ("apps", "benchmarks", "cli", "config", "docs", "examples", "integrations", "scripts", "tests")


def _prose(path: Path) -> str:
    return FENCE.sub("", path.read_text())


def _anchors(path: Path) -> set[str]:
    """Headings as forges make anchors of them."""
    headings = re.findall(r"^#+ (.+)$", _prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(path)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), f"{target} is not there"
        assert linked.is_relative_to(ROOT)
        assert not anchor or anchor in _anchors(linked), f"{target}: there is no such heading"


@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_files_that_are_named_are_there(path: Path) -> None:
    for name in re.findall(rf"`((?:{'|'.join(TOP)})/[\w./-]+)`", _prose(path)):
        places = (ROOT / name, ROOT / "apps" / name)
        assert any(place.exists() for place in places), f"{name} is not there"


def test_every_document_is_linked_from_another() -> None:
    linked = {
        (path.parent / target.partition("#")[0]).resolve()
        for path in DOCUMENTS
        for target in re.findall(r"\]\(([^)\s#][^)\s]*)\)", _prose(path))
        if "://" not in target
    }
    alone = {path for path in (ROOT / "docs").rglob("*.md") if path not in linked} - {ROOT / "docs" / "README.md"}
    assert not alone
