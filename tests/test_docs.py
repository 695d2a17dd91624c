"""The documents name files, tests and links that exist."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import needs_gil

import safemmap

TESTS = Path(__file__).parent
SEPARATOR = "-" * 20
CORE = TESTS.parent / "csrc"


def test_each_hazard_names_a_test_that_exists() -> None:
    table = (CORE / "README.md").read_text().partition("| hazard | test |")[2]
    rows = [row for row in table.splitlines() if row.startswith("| ")]
    assert len(rows) > 20
    for row in rows:
        cell = row.split("|")[2]
        named = 0
        for entry in cell.split(";"):
            file, *tests = re.findall(r"`([^`]+)`", entry)
            path = TESTS / ("c" if file.endswith(".c") else "") / file
            text = path.read_text()
            for test in tests:
                prefix = "( {4})?(def|class) " if file.endswith(".py") else ""
                defined = rf"^{prefix}{test}[(:]"
                assert re.search(defined, text, re.MULTILINE), (file, test)
                named += 1
        assert named, row


def test_every_core_file_says_where_it_runs() -> None:
    for path in CORE.rglob("*.c"):
        assert re.match(
            r"/\* Runs (only )?(inside|outside|in|nowhere)", path.read_text()
        ), path


def test_each_link_leads_somewhere() -> None:
    root = TESTS.parent
    pages = [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("*/README.md")]
    assert len(pages) > 4
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), (page, target)


def test_code_of_the_page_on_services_is_that_of_the_server() -> None:
    root = TESTS.parent
    page = (root / "docs/services.md").read_text()
    blocks = re.findall(
        r"^<!-- (\S+): (\w+) -->\n\n```python\n(.*?)^```$", page, re.M | re.S
    )
    assert len(blocks) >= 5
    for path, name, code in blocks:
        source = (root / path).read_text()
        section = re.search(rf"^ *# \[{name}\n(.*?)^ *# {name}\]$", source, re.M | re.S)
        assert section is not None, (path, name)
        # (In a class, the formatter breaks lines elsewhere.)
        assert code.split() == section[1].split(), (path, name)


# The rows of README's table of costs: the column of docs/results.md that each is from.
COST_COLUMNS = ("guarded", "guarded", "guarded", "view", "kernel", "protect")


def test_the_costs_in_the_readme_are_those_that_were_measured() -> None:
    root = TESTS.parent
    costs = measured((root / "docs/results.md").read_text())
    section = (root / "README.md").read_text().partition("## What it costs")[2]
    claims = re.findall(r"^\| (.+?) \| .+ \| ([\d.]+) \|$", section, re.MULTILINE)
    for (row, claim), column in zip(claims, COST_COLUMNS, strict=True):
        agrees(float(claim), costs[row][column])
    microseconds = re.search(r"takes some\s+(\d+) µs", section)
    assert microseconds is not None
    agrees(float(microseconds[1]), costs["fault and recover"]["guarded"])


def agrees(claim: float, figure: float) -> None:
    """Within what one run differs from another."""
    assert figure / 1.4 <= claim <= figure * 1.4, (claim, figure)


def measured(page: str) -> dict[str, dict[str, float]]:
    """The table of costs: ratios, and the time of the first in its own unit."""
    lines = page[page.index("|  | mmap |") :].partition("\n\n")[0].splitlines()
    head, _, *rows = [
        [cell.strip() for cell in line[1:-1].split("|")] for line in lines
    ]
    return {
        row[0]: {
            column: float(re.match(r"[\d.]+", cell)[0])  # type: ignore[index]
            for column, cell in zip(head[1:], row[1:], strict=True)
            if cell != "-"
        }
        for row in rows
    }


def test_the_readme_is_short() -> None:
    assert len((TESTS.parent / "README.md").read_text().splitlines()) <= 200


def test_one_version() -> None:
    root = TESTS.parent
    for file, pattern in (
        ("pyproject.toml", r'^version = "(.+)"'),
        ("safemmap/include/safemmap.h", r'^#define SAFEMMAP_RELEASE "(.+)"'),
        ("meson.build", r"^  version: '(.+)'"),
        ("CITATION.cff", r"^version: (.+)"),
        ("CHANGELOG.md", r"^## ([\d.]+)"),
    ):
        found = re.search(pattern, (root / file).read_text(), re.MULTILINE)
        assert found is not None, file
        assert found[1] == safemmap.__version__, file


def test_the_page_on_messages_quotes_messages_that_there_are() -> None:
    root = TESTS.parent
    sources = "".join(
        path.read_text()
        for path in (root / "safemmap").iterdir()
        if path.suffix in (".py", ".pyx", ".pxi")
    )
    # What is broken over lines in them, and what they fill in.
    said = re.sub(r"""["']\s*b?f?["']""", "", sources).replace("\\", "")
    rows = re.findall(r"^\| (`.+?) \|", (root / "docs/errors.md").read_text(), re.M)
    assert len(rows) > 35
    for row in rows:
        for quoted in re.findall("`([^`]+)`", row):
            for part in quoted.split("…"):
                assert part in said, part


@needs_gil
def test_the_tutorial_prints_what_it_shows(tmp_path: Path) -> None:
    blocks = examples("docs/tutorial.md")
    script = f"print({SEPARATOR!r})\n".join(code for code, _ in blocks)
    shown = f"{SEPARATOR}\n".join(output for _, output in blocks)
    assert printed(script, tmp_path) == shown


@needs_gil
@pytest.mark.parametrize("number", range(5))
def test_the_page_on_libraries_prints_what_it_shows(
    number: int, tmp_path: Path
) -> None:
    code, shown = examples("docs/libraries.md")[number]
    for name in re.findall(r"^import (\w+)", code, re.MULTILINE):
        pytest.importorskip(name, reason=f"needs {name}")
    assert printed(code, tmp_path) == shown


def examples(page: str) -> list[tuple[str, str]]:
    """The blocks of code of a page, and what it shows that they print."""
    text = (TESTS.parent / page).read_text()
    pattern = r"^```python\n(.*?)^```\n\n((?: {4}[^\n]*\n)+)"
    found = re.findall(pattern, text, re.MULTILINE | re.DOTALL)
    assert len(found) == text.count("```python")
    return [(code, textwrap.dedent(output)) for code, output in found]


def printed(script: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
