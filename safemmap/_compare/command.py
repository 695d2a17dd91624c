"""The command: measures with a bar of progress, shows, and writes."""

from __future__ import annotations

import argparse
import os

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from safemmap._compare import report
from safemmap._compare.costs import costs, fault_latencies
from safemmap._compare.result import CostLine, Result, machine
from safemmap._compare.survival import cells, run_all
from safemmap._compare.timing import measure

__all__ = ["run"]

_ROUNDS, _ROUNDS_QUICK = 41, 9
_FAULTS, _FAULTS_QUICK = 5000, 500


def run(arguments: argparse.Namespace) -> int:
    """The exit status."""
    if arguments.plot is not None:
        from safemmap._compare import plot
    # Files that cannot be written are found out before minutes of work.
    for path in (arguments.json, arguments.markdown, arguments.plot):
        if path is not None:
            path.touch()
    result = _compare(arguments.quick, arguments.destructive)
    report.show(result, Console())
    if arguments.json is not None:
        arguments.json.write_text(result.to_json())
    if arguments.markdown is not None:
        arguments.markdown.write_text(report.markdown(result))
    if arguments.plot is not None:
        plot.draw(result, arguments.plot)
    return 0


def _compare(quick: bool, destructive: bool) -> Result:
    result = Result(machine())
    to_try, to_measure = cells(), costs(quick=quick)
    with Progress(
        TextColumn("{task.description:40}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        trying = progress.add_task("survival", total=len(to_try))
        workers = len(os.sched_getaffinity(0))
        for cell in run_all(to_try, destructive=destructive, workers=workers):
            result.cells.append(cell)
            progress.update(
                trying, advance=1, description=f"{cell.approach}: {cell.source}"
            )
        measuring = progress.add_task("costs", total=len(to_measure) + 1)
        for cost in to_measure:
            progress.update(measuring, description=cost.name)
            with cost.prepare() as alternatives:
                rounds = measure(alternatives, _ROUNDS_QUICK if quick else _ROUNDS)
            result.costs.append(CostLine.of(cost, rounds))
            progress.advance(measuring)
        progress.update(measuring, description="single faults")
        result.latencies = fault_latencies(_FAULTS_QUICK if quick else _FAULTS)
        progress.advance(measuring)
    return result
