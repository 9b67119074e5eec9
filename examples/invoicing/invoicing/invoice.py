"""Invoices: lines, a discount on the whole, and totals."""

from __future__ import annotations

from dataclasses import dataclass

from invoicing.money import allocate, percentage
from invoicing.tax import tax_by_class


@dataclass(frozen=True)
class Line:
    """Some goods at a price, in cents before tax."""

    text: str
    quantity: int
    unit_price: int
    tax_class: str = "standard"

    @property
    def price(self) -> int:
        return self.quantity * self.unit_price


@dataclass(frozen=True)
class Invoice:
    """What a customer has to pay for; the discount is in basis points of the subtotal."""

    number: str
    customer: str
    lines: tuple[Line, ...]
    discount: int = 0

    def subtotal(self) -> int:
        """All lines before discount and tax."""
        return sum(line.price for line in self.lines)

    def discount_amount(self) -> int:
        """The discount on the whole invoice in cents."""
        return percentage(self.subtotal(), self.discount)

    def discount_spread(self) -> list[int]:
        """Each line's part of the discount, by its price. The parts add up to the discount exactly."""
        amount = self.discount_amount()
        if amount == 0:
            return [0] * len(self.lines)
        return allocate(amount, [line.price for line in self.lines])

    def net_prices(self) -> list[int]:
        """Each line's price after its part of the discount."""
        return [line.price - part for line, part in zip(self.lines, self.discount_spread(), strict=True)]

    def taxes(self) -> dict[str, int]:
        """The tax of each class, on the discounted prices."""
        classes = (line.tax_class for line in self.lines)
        return tax_by_class(zip(classes, self.net_prices(), strict=True))

    def total(self) -> int:
        """What has to be paid."""
        return sum(self.net_prices()) + sum(self.taxes().values())
