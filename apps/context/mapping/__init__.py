"""A repository at a glance: which definitions matter, what fits into a prompt, what is written twice. No Django in here."""
