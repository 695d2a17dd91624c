"""The command: measures with a bar of progress, shows, and writes."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from safemmap._commands.compare import report
from safemmap._commands.compare.costs import costs, fault_latencies
from safemmap._commands.compare.result import CostLine, Result, machine
from safemmap._commands.compare.survival import cells, run_all
from safemmap._commands.compare.timing import measure

__all__ = ["run"]

_ROUNDS, _ROUNDS_QUICK = 41, 9
_FAULTS, _FAULTS_QUICK = 5000, 500
_WIDE = 1000


def run(arguments: argparse.Namespace) -> int:
    """The exit status."""
    draw = None
    if arguments.plot is not None:
        from safemmap._commands.compare import plot

        plot.check_format(arguments.plot)
        draw = plot.draw
    paths = (arguments.json, arguments.markdown, arguments.plot)
    with _files([path for path in paths if path is not None]):
        result = _compare(arguments.quick, arguments.destructive)
        # A table that goes to a file or a pipe is as wide as it is.
        width = shutil.get_terminal_size((_WIDE, 0)).columns
        report.show(result, Console(width=width))
        if arguments.json is not None:
            arguments.json.write_text(result.to_json())
        if arguments.markdown is not None:
            arguments.markdown.write_text(report.markdown(result))
        if draw is not None:
            draw(result, arguments.plot)
    return 0


@contextlib.contextmanager
def _files(paths: list[Path]) -> Iterator[None]:
    """That they cannot be written is found out before minutes of work; and those that
    were not are not left there empty."""
    new = [path for path in paths if not path.exists()]
    try:
        for path in paths:
            path.open("a").close()
        yield
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise


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
        result.cells.sort(key=lambda cell: to_try.index(cell[:2]))
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
