"""Writes the tables of README.md anew, from what pytest-benchmark has stored.

python -m pytest bench --benchmark-json=3.13.json  # and so for other Pythons
python bench/tables.py 3.13.json 3.11.json  # times are those of the first
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- tables: begin -->\n", "<!-- tables: end -->\n"

OPERATIONS = "test_operations", "test_reads", "test_import"
OTHERS = "test_views", "test_protection", "test_threads"
#: The figures of floor.c that users ask for.
FLOOR = {
    "fault+siglongjmp": "bare fault and `siglongjmp`",
    "fault+guard": "fault of a guarded copy",
    "fault+zeros": "bare fault, a zeroed page mapped, and read",
    "BusError caught": "`BusError` caught in Python",
    "copy64": "bare copy of 64 bytes",
    "sigsetjmp+copy64": "the same after `sigsetjmp`",
    "guarded-copy64": "the same, guarded",
    "copy-64-MiB": "64 MiB copied, 1 MiB at a time",
    "copy-twice-by-two-threads": "the same by each of two threads at once",
    "register-10": "region registered and removed among 10",
    "register-60000": "… among 60,000 at random places",
    "guarded-by-1": "guarded fault, one thread",
    "guarded-by-4": "… four threads at once",
    "zeros-by-1": "bare fault, zeroed page mapped, and file again, one thread",
    "zeros-by-4": "… four threads at once",
    "register-fault-remove-by-1": "region registered, faulted in, removed, one thread",
    "register-fault-remove-by-4": "… four threads at once",
    "mapped-anew-and-fault": "page mapped anew, and read under `enable()`",
    "mapped-anew-and-fault-of-60000": "… with 60,000 mappings",
}

#: Of one Python: by the name of the line, in their order.
Lines = dict[str, dict[str, Any]]


def lines(run: dict[str, Any], *files: str) -> Lines:
    return {
        found["extra_info"]["line"]: found["extra_info"]
        for found in run["benchmarks"]
        if "line" in found["extra_info"]
        and found["fullname"].split("::")[0].rpartition("/")[2][:-3] in files
    }


def floor(run: dict[str, Any]) -> dict[str, float]:
    for found in run["benchmarks"]:
        if "floor_ns" in found["extra_info"]:
            return dict(found["extra_info"]["floor_ns"])
    return {}


def in_units(nanoseconds: float) -> str:
    for unit, size in ("ms", 1e6), ("µs", 1e3):
        if nanoseconds >= size:
            number = nanoseconds / size
            return f"{number:.{0 if number >= 10 else 1}f} {unit}"
    return f"{nanoseconds:.{0 if nanoseconds >= 10 else 1}f} ns"


def named(line: str) -> str:
    return f"`{line}`" if line.startswith("m[") else line


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def heading(first: str, names: list[str], *more: str) -> str:
    sides = ["--:" if cell.startswith("time") else "---" for cell in more]
    return row(first, *more, *names) + row("---", *sides, *["--:"] * len(names))


def ratio(line: dict[str, Any] | None, to: str) -> str:
    if line is None or to not in line["ratios"]:
        return "-"
    return f"{line['ratios'][to][0]:.2f}"


def operations(runs: dict[str, dict[str, Any]]) -> Iterator[str]:
    found = [lines(run, *OPERATIONS) for run in runs.values()]
    names = list(runs)
    yield "### Each operation over the standard `mmap`\n\n"
    yield heading("", names, f"time on {names[0]}")
    for name, line in found[0].items():
        time = next(iter(line["medians_ns"].values()))
        yield row(
            named(name),
            in_units(time),
            *(ratio(one.get(name), "mmap") for one in found),
        )


def others(runs: dict[str, dict[str, Any]]) -> Iterator[str]:
    found = [lines(run, *OTHERS) for run in runs.values()]
    names = list(runs)
    yield "\n### Views, faults, ways of protection, threads\n\n"
    yield heading("", names, "over", f"time on {names[0]}")
    for name, line in found[0].items():
        time = next(iter(line["medians_ns"].values()))
        for to in line["ratios"]:
            ratios = (ratio(one.get(name), to) for one in found)
            yield row(name, to.replace("_", " "), in_units(time), *ratios)


def bare(runs: dict[str, dict[str, Any]]) -> Iterator[str]:
    measured = {name: floor(run) for name, run in runs.items() if floor(run)}
    found = list(measured.values())
    yield "\n### Without Python\n\n"
    yield heading("", list(measured))
    for key, name in FLOOR.items():
        if any(key in one for one in found):
            yield row(
                name, *(in_units(one[key]) if key in one else "-" for one in found)
            )


def main(paths: list[str]) -> None:
    runs = {Path(path).stem: json.loads(Path(path).read_text()) for path in paths}
    before, rest = README.read_text().split(BEGIN)
    after = rest.split(END)[1]
    tables = [*operations(runs), *others(runs), *bare(runs)]
    README.write_text("".join([before, BEGIN, "\n", *tables, "\n", END, after]))


if __name__ == "__main__":
    main(sys.argv[1:])
