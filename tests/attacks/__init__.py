"""Ways out of a sandbox, as programs that are run in one and outside of it; shared by tests and ``bench escapes``."""
