"""``python -m safemmap run``: a whole program under protection, children included."""
