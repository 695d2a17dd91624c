"""Protects the process from its start on, then makes room for the program's own
sitecustomize.

`safemmap.enable` puts this directory first on PYTHONPATH, where each Python that the
process starts finds it.
"""

import os
import sys

_here = os.path.dirname(__file__)
# safemmap may be on the path of the parent alone.
_root = os.path.abspath(os.path.join(_here, *[os.pardir] * 2))

sys.path[:] = [entry for entry in sys.path if entry != _here]
del sys.modules[__name__]

sys.path.append(_root)
try:
    import safemmap  # noqa: F401 (SAFEMMAP_ENABLE=1 does the rest)
except ImportError:
    pass  # another version of Python, for which it is not built
except (OSError, RuntimeError, ValueError) as error:
    sys.stderr.write(f"safemmap: this process is not protected: {error}\n")
finally:
    sys.path.pop()

# The program's own.
import sitecustomize  # type: ignore[import-not-found]  # noqa: E402, F401
