"""Finding code: candidates by text, symbol, pattern and meaning, fused, and held against the files."""
