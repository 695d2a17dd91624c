"""The documents name files, tests and links that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
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
