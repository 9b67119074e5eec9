import unittest

from invoicing.tax import rate_of, tax_by_class


class TaxTest(unittest.TestCase):
    def test_knows_its_classes(self):
        self.assertEqual(rate_of("reduced"), 700)

    def test_refuses_an_unknown_class(self):
        with self.assertRaises(ValueError):
            rate_of("luxury")

    def test_sums_before_it_rounds(self):
        self.assertEqual(tax_by_class([("standard", 3), ("standard", 3)]), {"standard": 1})

    def test_keeps_classes_apart(self):
        taxes = tax_by_class([("standard", 1000), ("reduced", 1000), ("exempt", 1000)])
        self.assertEqual(taxes, {"standard": 190, "reduced": 70, "exempt": 0})
