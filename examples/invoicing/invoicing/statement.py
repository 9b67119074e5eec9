"""An invoice as text, and what a customer owes."""

from __future__ import annotations

from collections.abc import Iterable

from invoicing.invoice import Invoice
from invoicing.money import format_amount

_WIDTH = 48


def render(invoice: Invoice) -> str:
    """The invoice as lines of text, amounts to the right."""
    rows = [f"Invoice {invoice.number} for {invoice.customer}"]
    for line, net in zip(invoice.lines, invoice.net_prices(), strict=True):
        rows.append(_row(f"{line.quantity} x {line.text}", net))
    for tax_class, tax in invoice.taxes().items():
        if tax:
            rows.append(_row(f"Tax ({tax_class})", tax))
    rows.append(_row("Total", invoice.total()))
    return "\n".join(rows)


def owed(invoices: Iterable[Invoice], payments: Iterable[int]) -> int:
    """What is left to pay; negative when too much was paid."""
    return sum(invoice.total() for invoice in invoices) - sum(payments)


def _row(text: str, cents: int) -> str:
    amount = format_amount(cents)
    return f"{text:<{_WIDTH - len(amount)}}{amount}"
