"""A repository at a glance: which definitions matter, what fits into a prompt, what is there twice. No Django here."""
