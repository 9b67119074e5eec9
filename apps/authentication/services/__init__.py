"""Writes of the app, by concept: accounts, tokens, API keys, tickets, invites."""
