"""Reading source files: pure functions from bytes to symbols, references, imports and chunks. No Django in here."""
