import unittest

from invoicing.money import allocate, format_amount, parse_amount, percentage


class ParseTest(unittest.TestCase):
    def test_reads_whole_amounts_and_cents(self):
        self.assertEqual(parse_amount("12"), 1200)
        self.assertEqual(parse_amount(" 12.05 "), 1205)

    def test_reads_thousands_and_signs(self):
        self.assertEqual(parse_amount("-1,234.50"), -123450)

    def test_refuses_what_is_no_amount(self):
        for text in ("", "12.5", "1,23.00", "twelve"):
            with self.subTest(text=text), self.assertRaises(ValueError):
                parse_amount(text)


class FormatTest(unittest.TestCase):
    def test_writes_thousands_and_two_places(self):
        self.assertEqual(format_amount(123450), "1,234.50")

    def test_writes_negative_amounts(self):
        self.assertEqual(format_amount(-5), "-0.05")

    def test_what_is_written_can_be_read(self):
        for cents in (0, 7, 100, -99999, 123456789):
            self.assertEqual(parse_amount(format_amount(cents)), cents)


class PercentageTest(unittest.TestCase):
    def test_rounds_half_a_cent_away_from_zero(self):
        self.assertEqual(percentage(150, 100), 2)
        self.assertEqual(percentage(-150, 100), -2)

    def test_rounds_less_than_half_a_cent_down(self):
        self.assertEqual(percentage(149, 100), 1)


class AllocateTest(unittest.TestCase):
    def test_equal_weights_differ_by_a_cent_at_most(self):
        self.assertEqual(allocate(100, [1, 1, 1]), [34, 33, 33])

    def test_parts_add_up(self):
        for total in range(0, 250, 7):
            self.assertEqual(sum(allocate(total, [5, 0, 3, 11])), total)

    def test_refuses_weights_that_split_nothing(self):
        with self.assertRaises(ValueError):
            allocate(100, [0, 0])
