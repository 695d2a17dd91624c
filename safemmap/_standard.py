"""The constants of the standard ``mmap`` module of the running Python."""

from mmap import *  # noqa: F403

del mmap  # noqa: F821
