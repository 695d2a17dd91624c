"""``python -m safemmap compare``: which approach survives what, and what it costs.

The modules here need what the extra ``compare`` installs.
"""
