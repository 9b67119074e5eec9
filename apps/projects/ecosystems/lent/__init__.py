"""Files that a check's sandbox is lent (at ``LENT``), where nothing of the server can be imported."""
