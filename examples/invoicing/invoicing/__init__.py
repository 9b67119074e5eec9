"""Invoices with discounts and taxes, to the cent."""
