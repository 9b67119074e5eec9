"""How the embedder that ships with Archon is made: from packages' documented functions to a table of stems' vectors.

Nothing here is imported by the server. Sources are fetched by pip, npm and apt, and read; none of them is run.
"""
