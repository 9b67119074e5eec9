"""Reading source files: pure functions from bytes to symbols, references, imports and chunks. No Django in here.

``file_parse`` and ``language_of`` are the way in; ``types`` says what comes out.
"""
