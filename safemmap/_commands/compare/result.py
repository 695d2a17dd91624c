"""What a comparison has found."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safemmap
from safemmap._commands.compare.costs import REFERENCE, Cost
from safemmap._commands.compare.survival import Cell
from safemmap._commands.compare.timing import Ratio, Rounds, ratio

__all__ = ["CostLine", "Result", "machine"]


@dataclass
class CostLine:
    """One line of the table of costs."""

    name: str
    size: int | None  #: bytes that are read
    reference: str  #: what the ratios are to
    medians: dict[str, float]  #: nanoseconds
    ratios: dict[str, Ratio]

    @classmethod
    def of(cls, cost: Cost, rounds: Rounds) -> CostLine:
        reference = REFERENCE if REFERENCE in rounds else "guarded"
        return cls(
            cost.name,
            cost.size,
            reference,
            {label: statistics.median(times) for label, times in rounds.items()},
            {label: ratio(rounds, label, to=reference) for label in rounds},
        )


@dataclass
class Result:
    machine: dict[str, str]
    cells: list[Cell] = field(default_factory=list)
    costs: list[CostLine] = field(default_factory=list)
    #: Nanoseconds of single faults, sorted, for each approach.
    latencies: dict[str, list[int]] = field(default_factory=dict)

    def machine_in_words(self) -> str:
        return ", ".join(f"{key} {value}" for key, value in self.machine.items())

    def outcome(self, source: str, approach: str) -> Cell:
        return next(
            cell
            for cell in self.cells
            if (cell.source, cell.approach) == (source, approach)
        )

    def to_json(self) -> str:
        content: dict[str, Any] = {
            "machine": self.machine,
            "survival": [cell._asdict() for cell in self.cells],
            "costs": [
                {
                    "name": line.name,
                    "bytes": line.size,
                    "reference": line.reference,
                    "median_ns": line.medians,
                    "ratio": {
                        label: each._asdict() for label, each in line.ratios.items()
                    },
                }
                for line in self.costs
            ],
            "fault_latency_ns": self.latencies,
        }
        return json.dumps(content, indent=1) + "\n"


def machine() -> dict[str, str]:
    """What the figures are of."""
    return {
        "date": datetime.date.today().isoformat(),
        "safemmap": safemmap.__version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": f"{len(os.sched_getaffinity(0))} x {_processor()}",
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()
