"""The results as a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib

from safemmap._commands.compare.approaches import APPROACHES
from safemmap._commands.compare.result import Result
from safemmap._commands.compare.survival import Outcome
from safemmap.testing import SOURCES

matplotlib.use("Agg")  # needs no screen
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.patches import Rectangle

__all__ = ["check_format", "draw"]

_COLOURS = {
    Outcome.DATA: "#8fce8f",
    Outcome.BLOCKED: "#8fce8f",
    Outcome.REFUSED: "#b7deb7",
    Outcome.RAISED: "#b7deb7",
    Outcome.SHORT: "#b7deb7",
    Outcome.CHANGED: "#f2dc8d",
    Outcome.ZEROS: "#f0a35e",
    Outcome.HUNG: "#d9534f",
    Outcome.KILLED: "#d9534f",
    Outcome.IMPOSSIBLE: "#dddddd",
}


def check_format(path: Path) -> None:
    """:raises ValueError: matplotlib does not know the format."""
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.removeprefix(".").lower() not in known:
        raise ValueError(
            f"{path}: the name must end in one of .{', .'.join(sorted(known))}"
        )


def draw(result: Result, path: Path) -> None:
    """In the format that the name says: ``.svg``, ``.png``, ...

    :raises ValueError: see `check_format`.
    """
    figure, (matrix, by_size, faults) = pyplot.subplots(
        3, 1, figsize=(11, 16), layout="constrained"
    )
    _draw_matrix(result, matrix)
    _draw_by_size(result, by_size)
    _draw_faults(result, faults)
    figure.supxlabel(result.machine_in_words(), fontsize="small")
    try:
        figure.savefig(path)
    finally:
        pyplot.close(figure)


def _draw_matrix(result: Result, axes: Axes) -> None:
    for row, source in enumerate(SOURCES):
        for column, approach in enumerate(APPROACHES):
            outcome = result.outcome(source, approach).outcome
            axes.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5),
                    1,
                    1,
                    facecolor=_COLOURS[outcome],
                    edgecolor="white",
                )
            )
            axes.text(
                column,
                row,
                outcome.replace(" ", "\n"),
                ha="center",
                va="center",
                fontsize="small",
            )
    axes.set_xlim(-0.5, len(APPROACHES) - 0.5)
    axes.set_ylim(len(SOURCES) - 0.5, -0.5)
    axes.set_xticks(range(len(APPROACHES)), list(APPROACHES))
    axes.set_yticks(range(len(SOURCES)), list(SOURCES))
    axes.tick_params(length=0)
    axes.set_title("What becomes of a reader")


def _draw_by_size(result: Result, axes: Axes) -> None:
    lines = [line for line in result.costs if line.size is not None]
    for approach in APPROACHES:
        points = [
            (line.size, line.medians[approach])
            for line in lines
            if approach in line.medians
        ]
        if points:
            sizes, times = zip(*points, strict=True)
            axes.loglog(
                sizes,
                times,
                marker="o",
                markersize=4,
                label=approach,
                color=_colour(approach),
            )
    _label(axes, "What a read costs where nothing happens", "bytes read", "nanoseconds")


def _colour(approach: str) -> str:
    return f"C{list(APPROACHES).index(approach)}"


def _draw_faults(result: Result, axes: Axes) -> None:
    for approach, every in result.latencies.items():
        times = every[:: max(1, len(every) // 200)]
        share = [(index + 1) / len(times) for index in range(len(times))]
        axes.semilogx(
            times,
            share,
            drawstyle="steps-post",
            label=approach,
            color=_colour(approach),
        )
    _label(
        axes,
        "What a fault costs",
        "nanoseconds from the access to where the program knows",
        "share of the faults",
    )


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.legend()
