"""Which licence an archive states, and whether a model may learn from it: no GPL of any kind, and none unstated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

_REFUSED = re.compile(
    r"GPL|GNU |Affero|Proprietary|Business Source|BUSL|Elastic|Commons Clause|NonCommercial|CC-BY-NC|SSPL|EUPL|CeCILL"
    r"|SEE LICEN|UNLICENSED|Other/Proprietary",
    re.IGNORECASE,
)
#: What a term may be, once the words around it are gone: "Licensed under the MIT License (MIT)" is "MIT".
_ACCEPTED = (
    r"Apache(?:[ -]Software)?(?:[ -]?(?:2|2\.0))?(?: 2\.0)?",
    r"MIT(?:-0|-CMU| No Attribution)?|Expat",
    r"(?:Two-clause |New |Simplified |Modified )?BSD(?:[ -]?[234][ -]clause)?(?:~Google)?|[23]-clause BSD|0BSD",
    r"ISC",
    r"MPL[ -]?2(?:\.0)?|Mozilla Public(?: 2\.0)?",
    r"PSF(?:-2\.0)?|Python Software Foundation|Python-2\.0",
    r"zlib(?:/libpng)?|ZPL[ -]2\.1|Zope Public|HPND|Historical Permission Notice and Disclaimer",
    r"BSL-1\.0|Boost(?:[ -]Software)?(?:-License)?(?:[ -]1\.0)?",
    r"CC0(?:-1\.0)?|CC-BY-[34]\.0|Unlicense|public-domain|W3C|Unicode(?:-DFS-2016|-3\.0)?",
)
_TERM = re.compile("|".join(_ACCEPTED), re.IGNORECASE)
_AROUND = re.compile(
    r"\((?:MIT(?:-0)?|Apache 2\.0|2\.0|ISCL|MPL 2\.0|HPND|Unlicense)\)"
    r"|(?<![\w-])(?:licen[sc]ed?|the|version|under|OSI Approved|with LLVM-exception|,|::|v(?=2))(?![\w-])|,",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\s+(?:AND|OR)\s+", re.IGNORECASE)
_LONGEST = 100
#: Of files that have a paragraph without a licence: nothing that is permitted.
_UNSTATED = "unstated"


def is_permitted(licence: str) -> bool:
    """Whether each licence that is stated permits it, whichever of them one may choose."""
    if not licence.strip() or _REFUSED.search(licence):
        return False
    return all(_is_accepted(term) for term in _BETWEEN.split(_AROUND.sub(" ", licence)))


def _is_accepted(term: str) -> bool:
    return _TERM.fullmatch(" ".join(term.split())) is not None


def wheel_licence(metadata: str) -> str:
    """As a wheel's METADATA says it: an expression, or else the classifiers, or else one line of text."""
    head = metadata.replace("\r", "").split("\n\n")[0]
    expression = re.findall(r"^License-Expression: (.+)$", head, re.MULTILINE)
    classifiers = [
        line.rpartition(" :: ")[2] for line in re.findall(r"^Classifier: License :: (.+)$", head, re.MULTILINE)
    ]
    text = re.findall(r"^License: (.+)$", head, re.MULTILINE)
    told = expression or classifiers or [line for line in text if len(line) <= _LONGEST]
    return _joined(told)


def npm_licence(package: str) -> str:
    """As ``package.json`` says it."""
    told = json.loads(package)
    stated = told.get("license") or told.get("licenses") or ""
    many = stated if isinstance(stated, list) else [stated]
    return _joined(str(one.get("type", "")) if isinstance(one, dict) else str(one) for one in many)


def debian_licence(copyright_file: str) -> str:
    """The licences that a machine-readable copyright file gives to what is not Debian's own packaging."""
    told: list[str] = []
    # A licence may stand behind an empty line, and belongs to the files before it all the same.
    is_waiting = False
    for paragraph in re.split(r"\n[ \t]*\n", copyright_file.replace("\r", "")):
        files = re.search(r"^Files:((?:.*\n?)(?:[ \t]+.*\n?)*)", paragraph, re.MULTILINE | re.IGNORECASE)
        licence = re.search(r"^License:[ \t]*(\S.*)$", paragraph, re.MULTILINE | re.IGNORECASE)
        if is_waiting:
            told.append(licence[1].strip() if licence and not files else _UNSTATED)
        # Patterns are set apart by blanks, and stand on as many lines as they need.
        counts = files is not None and any(not pattern.startswith("debian/") for pattern in files[1].split())
        if counts and licence:
            told.append(licence[1].strip())
        is_waiting = counts and licence is None
    return _joined([*told, _UNSTATED] if is_waiting else told)


def _joined(told: Iterable[str]) -> str:
    return " AND ".join(dict.fromkeys(one.strip() for one in told if one.strip()))
