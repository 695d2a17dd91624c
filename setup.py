"""The compiled module; everything else is in pyproject.toml."""

import sysconfig
from glob import glob

from setuptools import Extension, setup

needs_gil = Extension("safemmap._needs_gil", ["safemmap/_needs_gil.c"])

setup(
    ext_modules=[
        *([needs_gil] if sysconfig.get_config_var("Py_GIL_DISABLED") else []),
        Extension(
            "safemmap._core",
            [
                "safemmap/_core.pyx",
                "safemmap/_capsule.c",
                "safemmap/_free_threading.c",
                "safemmap/_interrupt.c",
                "safemmap/_monitoring.c",
                "safemmap/_pending.c",
                "safemmap/_pin.c",
                "safemmap/_waiting.c",
                "safemmap/_watcher.c",
                *sorted(glob("csrc/*.c")),
            ],
            include_dirs=["safemmap", "safemmap/include"],
            depends=[
                *glob("safemmap/*.p?[di]"),
                *glob("safemmap/*.h"),
                *glob("safemmap/include/*.h"),
                *glob("csrc/**/*.[ch]", recursive=True),
            ],
            define_macros=[
                ("_GNU_SOURCE", None),
                # Shown for these versions alone. (Later ones have the GIL turned on.)
                ("CYTHON_FREETHREADING_COMPATIBLE", "(PY_VERSION_HEX < 0x03100000)"),
            ],
            # Short reads and searches take up to 1.3 times as long where a change of
            # other code happens to move their functions within a cache line.
            extra_compile_args=[
                "-std=gnu11",
                "-fvisibility=hidden",
                "-falign-functions=64",
            ],
            # The handler calls nothing that is still to be looked up: the linker would
            # need more room on the thread's stack than all that the handler does.
            extra_link_args=["-Wl,-z,now"],
        ),
    ]
)
