"""Clients of what makes vectors of texts: a model on this machine, endpoints of providers. Knows settings only."""
