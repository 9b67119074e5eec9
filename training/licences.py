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
_ACCEPTED = (
    ("Apache-2.0", r"\bApache\b"),
    ("MIT", r"\bMIT\b|\bExpat\b"),
    ("BSD", r"\bBSD\b"),
    ("ISC", r"\bISC\b"),
    ("MPL-2.0", r"\bMPL\b|Mozilla Public License"),
    ("PSF-2.0", r"\bPSF\b|Python Software Foundation|\bPython-2\.0\b"),
    ("Zlib", r"\bzlib\b"),
    ("ZPL-2.1", r"\bZPL\b|Zope Public"),
    ("HPND", r"\bHPND\b|Historical Permission"),
    ("BSL-1.0", r"\bBSL-1\.0\b|Boost Software"),
    ("0BSD", r"\b0BSD\b"),
    ("CC0-1.0", r"\bCC0\b"),
    ("Unlicense", r"\bUnlicense\b"),
)
_LONGEST = 100


def is_permitted(licence: str) -> bool:
    return bool(licence) and not _REFUSED.search(licence) and any(re.search(p, licence, re.I) for _, p in _ACCEPTED)


def wheel_licence(metadata: str) -> str:
    """As a wheel's METADATA says it: an expression, or else the classifiers, or else one line of text."""
    head = metadata.replace("\r", "").split("\n\n")[0]
    expression = re.findall(r"^License-Expression: (.+)$", head, re.MULTILINE)
    classifiers = [
        line.rpartition(" :: ")[2] for line in re.findall(r"^Classifier: License :: (.+)$", head, re.MULTILINE)
    ]
    text = re.findall(r"^License: (.+)$", head, re.MULTILINE)
    told = expression or classifiers + [line for line in text if len(line) <= _LONGEST]
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
    for paragraph in copyright_file.replace("\r", "").split("\n\n"):
        files = re.search(r"^Files:\s*(.+)$", paragraph, re.MULTILINE)
        licence = re.search(r"^License:\s*(\S.*)$", paragraph, re.MULTILINE)
        if files and licence and not files[1].strip().startswith("debian/"):
            told.append(licence[1].strip())
    return _joined(told)


def _joined(told: Iterable[str]) -> str:
    return " AND ".join(dict.fromkeys(one.strip() for one in told if one.strip()))[: _LONGEST * 3]
