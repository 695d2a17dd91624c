"""``python -m safemmap torture``: hours of bad luck in seconds.

The modules here need NumPy, which the extra ``compare`` installs.
"""
