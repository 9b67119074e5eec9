import unittest

from invoicing.invoice import Invoice, Line
from invoicing.statement import owed, render

BILL = Invoice(
    "2024-002",
    "Grace",
    (Line("chair", 4, 4999), Line("atlas", 1, 1995, "reduced"), Line("sticker", 1, 2, "exempt")),
    discount=500,
)


class StatementTest(unittest.TestCase):
    def test_amounts_stand_to_the_right(self):
        self.assertEqual({len(row) for row in render(BILL).splitlines()[1:]}, {48})

    def test_shows_each_line_after_discount(self):
        amounts = [row.split()[-1] for row in render(BILL).splitlines()[1:4]]
        self.assertEqual(amounts, ["189.96", "18.95", "0.02"])

    def test_owed_counts_payments(self):
        self.assertEqual(owed([BILL], [10_000]), BILL.total() - 10_000)

    def test_owed_can_be_negative(self):
        self.assertEqual(owed([], [500]), -500)
