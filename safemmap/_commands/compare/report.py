"""The two tables, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from safemmap._commands.compare.approaches import APPROACHES
from safemmap._commands.compare.result import CostLine, Result
from safemmap._commands.compare.survival import Outcome
from safemmap._commands.compare.timing import Ratio
from safemmap.testing import SOURCES

__all__ = ["markdown", "show"]

#: The colour of an outcome: green is safe, yellow is not what was there, red is bad.
_STYLES = {
    Outcome.DATA: "green",
    Outcome.BLOCKED: "green",
    Outcome.REFUSED: "green",
    Outcome.RAISED: "green",
    Outcome.SHORT: "green",
    Outcome.CHANGED: "yellow",
    Outcome.ZEROS: "red",
    Outcome.HUNG: "bold red",
    Outcome.KILLED: "bold red",
    Outcome.IMPOSSIBLE: "bright_black",
}

_MEANINGS = {
    Outcome.DATA: "what was there before",
    Outcome.BLOCKED: "the seal kept the peer from it",
    Outcome.REFUSED: "the file was not accepted",
    Outcome.RAISED: "an exception that tells",
    Outcome.SHORT: "fewer bytes than asked for, which tells",
    Outcome.CHANGED: "zeros that the file has there now",
    Outcome.ZEROS: "which are not in the file, and nothing tells",
    Outcome.HUNG: "until somebody kills it",
    Outcome.KILLED: "by SIGBUS",
    Outcome.IMPOSSIBLE: "the fault cannot be had",
}


_NOTES = (
    "fault and recover: until the program has caught the error; view with two "
    "ftruncate(2), and making and closing its mapping; protect with making and ending "
    "the protection",
)

#: A spread of ratios above which they show little.
_NOISY = 0.2


def show(result: Result, console: Console) -> None:
    _in_parts(console, "What becomes of a reader", list(APPROACHES), _survival(result))
    for text in _remarks(result):
        console.print(Text(text), style="bright_black")
    _in_parts(
        console,
        "What it costs: the median of the first that has one, and how many times that "
        "(half of the rounds were within the ±)",
        _measured(result),
        _costs(result),
    )
    doubt = _doubt(result)
    if doubt is not None:
        console.print(Text(doubt), style="bold yellow")
    for name, approach in APPROACHES.items():
        console.print(Text(f"{name}: {approach.description}"), style="bright_black")
    for note in _NOTES:
        console.print(Text(note), style="bright_black")


def _in_parts(
    console: Console, title: str, columns: list[str], rows: dict[str, list[Text]]
) -> None:
    """As many tables below each other as it takes for the columns to be read."""
    first, cell = max(map(len, rows)) + 2, 17
    fitting = max(1, (console.width - first) // cell)
    for start in range(0, len(columns), fitting):
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
        table.add_column("", width=first - 2, no_wrap=True)
        for column in columns[start : start + fitting]:
            table.add_column(column, width=cell - 2, justify="right")
        for name, cells in rows.items():
            table.add_row(name, *cells[start : start + fitting])
        console.print()
        console.print(table)


def _survival(result: Result) -> dict[str, list[Text]]:
    return {
        name: [
            Text(outcome, _STYLES[outcome])
            for approach in APPROACHES
            for outcome in [result.outcome(name, approach).outcome]
        ]
        for name in SOURCES
    }


def _remarks(result: Result) -> Iterator[str]:
    met = {cell.outcome for cell in result.cells}
    for outcome in Outcome:
        if outcome in met:
            yield f"{outcome}: {_MEANINGS[outcome]}"
    missing = {
        cell.source: cell.detail
        for cell in result.cells
        if cell.outcome is Outcome.IMPOSSIBLE
    }
    for source, reason in missing.items():
        yield f"{source}, not here: {reason}"


def _costs(result: Result) -> dict[str, list[Text]]:
    labels = _measured(result)
    return {
        line.name: list(map(Text, _cost_cells(line, labels, _half)))
        for line in result.costs
    }


def _doubt(result: Result) -> str | None:
    """What to say where the machine was too busy to be measured."""
    spreads = [
        ratio.spread
        for line in result.costs
        for label, ratio in line.ratios.items()
        if label != line.reference
    ]
    noisy = sum(spread > _NOISY for spread in spreads)
    if 4 * noisy <= len(spreads):
        return None
    return (
        f"{noisy} of {len(spreads)} ratios changed by more than {_NOISY:.0%} from one "
        "round to the next: this machine was too busy to judge by them"
    )


def _measured(result: Result) -> list[str]:
    met = {label for line in result.costs for label in line.medians}
    return [approach for approach in APPROACHES if approach in met]


def _cost_cells(
    line: CostLine, labels: list[str], spread: Callable[[Ratio], str]
) -> Iterator[str]:
    for label in labels:
        if label not in line.medians:
            yield "-"
        elif label == line.reference:
            yield _time(line.medians[label])
        else:
            ratio = line.ratios[label]
            yield f"{ratio.median:.2f}x {spread(ratio)}"


def _half(ratio: Ratio) -> str:
    return f"±{(ratio.high - ratio.low) / 2:.2f}"


def _quartiles(ratio: Ratio) -> str:
    return f"({ratio.low:.2f}..{ratio.high:.2f})"


def _time(nanoseconds: float) -> str:
    for unit, name in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if nanoseconds >= unit:
            return f"{nanoseconds / unit:.3g} {name}"
    return f"{nanoseconds:.0f} ns"


def markdown(result: Result) -> str:
    """Both tables, the ratios with their quartiles, for a document."""
    lines = ["# What each approach survives, and what it costs", ""]
    lines += ["Written by `safemmap compare --markdown`: one run on one machine.", ""]
    lines += [result.machine_in_words(), ""]
    lines += _row("fault", *APPROACHES)
    lines += _row(*["---"] * (1 + len(APPROACHES)))
    for name in SOURCES:
        cells = (result.outcome(name, approach) for approach in APPROACHES)
        lines += _row(name, *(cell.outcome for cell in cells))
    lines += ["", *(f"- {text}" for text in _remarks(result)), ""]
    labels = _measured(result)
    lines += _row("", *labels)
    lines += _row("---", *["--:"] * len(labels))
    for line in result.costs:
        lines += _row(line.name, *_cost_cells(line, labels, _quartiles))
    lines += ["", *(f"- {a.name}: {a.description}" for a in APPROACHES.values())]
    lines += [f"- {note}" for note in _NOTES]
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> list[str]:
    return ["| " + " | ".join(cells) + " |"]
