"""Tax rates, and what they come to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from invoicing.money import percentage

#: Basis points by class of goods.
RATES = {"standard": 1900, "reduced": 700, "exempt": 0}


def rate_of(tax_class: str) -> int:
    """The rate of a class of goods in basis points."""
    try:
        return RATES[tax_class]
    except KeyError:
        raise ValueError(f"unknown tax class: {tax_class!r}") from None


def tax_by_class(amounts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The tax of each class over (class, net amount) pairs: summed first, rounded once."""
    nets: dict[str, int] = defaultdict(int)
    for tax_class, net in amounts:
        nets[tax_class] += net
    return {tax_class: percentage(net, rate_of(tax_class)) for tax_class, net in sorted(nets.items())}
