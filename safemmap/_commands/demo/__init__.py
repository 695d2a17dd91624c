"""``python -m safemmap demo``: a peer truncates the file under two readers."""
