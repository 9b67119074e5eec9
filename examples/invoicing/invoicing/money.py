"""Amounts of money in whole cents."""

from __future__ import annotations

import re
from collections.abc import Sequence

_AMOUNT = re.compile(r"(?P<sign>-?)(?P<whole>\d{1,3}(?:,\d{3})+|\d+)(?:\.(?P<cents>\d{2}))?")


def parse_amount(text: str) -> int:
    """Read ``1,234.50`` or ``1234`` as cents."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not an amount: {text!r}")
    cents = int(match["whole"].replace(",", "")) * 100 + int(match["cents"] or 0)
    return -cents if match["sign"] else cents


def format_amount(cents: int) -> str:
    """Write cents as ``1,234.50``."""
    whole, rest = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{whole:,}.{rest:02}"


def percentage(cents: int, basis_points: int) -> int:
    """A share of an amount, half a cent rounded away from zero; 100 basis points are one percent."""
    share, rest = divmod(abs(cents) * basis_points, 10_000)
    rounded = share + (1 if rest * 2 >= 10_000 else 0)
    return -rounded if cents < 0 else rounded


def allocate(total: int, weights: Sequence[int]) -> list[int]:
    """Split ``total`` by ``weights`` into whole cents that add up to it exactly.

    Each part gets its share rounded down; the cents that are left over go, one each, to the parts that lost most by
    the rounding (the largest remainder method).
    """
    whole = sum(weights)
    if whole <= 0 or min(weights) < 0:
        raise ValueError("weights must not be negative, nor all zero")
    parts = [total * weight // whole for weight in weights]
    remainders = [total * weight % whole for weight in weights]
    left_over = total - sum(parts)
    for index in sorted(range(len(parts)), key=lambda index: remainders[index])[:left_over]:
        parts[index] += 1
    return parts
