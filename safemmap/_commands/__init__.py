"""What ``python -m safemmap`` runs, a module or a package for each command.

No module of the library imports anything from here.
"""
