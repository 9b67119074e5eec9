import unittest

from invoicing.invoice import Invoice, Line

WIDGET = Line("widget", quantity=3, unit_price=333)
MANUAL = Line("manual", quantity=1, unit_price=250, tax_class="reduced")
POSTAGE = Line("postage", quantity=1, unit_price=1, tax_class="exempt")


def invoice(*lines, discount=0):
    return Invoice("2024-001", "Ada", lines, discount)


class InvoiceTest(unittest.TestCase):
    def test_subtotal_counts_quantities(self):
        self.assertEqual(invoice(WIDGET, MANUAL).subtotal(), 1249)

    def test_without_discount_prices_stay(self):
        self.assertEqual(invoice(WIDGET, MANUAL).net_prices(), [999, 250])

    def test_discount_is_spread_exactly(self):
        for discount in range(0, 10_000, 333):
            bill = invoice(WIDGET, MANUAL, POSTAGE, discount=discount)
            self.assertEqual(sum(bill.discount_spread()), bill.discount_amount())

    def test_discount_follows_the_prices(self):
        # 10 % of 12.50 is 1.25: the shares are 99.9, 25.0 and 0.1 cents, so the odd cent belongs to the widgets.
        self.assertEqual(invoice(WIDGET, MANUAL, POSTAGE, discount=1000).discount_spread(), [100, 25, 0])

    def test_taxes_are_on_discounted_prices(self):
        taxes = invoice(Line("desk", 1, 10_000), discount=5000).taxes()
        self.assertEqual(taxes, {"standard": 950})

    def test_total_is_net_and_tax(self):
        self.assertEqual(invoice(WIDGET, MANUAL).total(), 1249 + 190 + 18)
