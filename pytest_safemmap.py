"""For tests with pytest: faults on purpose, and tests that outlive faults.

`fault_source` runs a test once with each source of `safemmap.testing`, and
`new_fault_source` makes those that a test asks for. What this machine cannot do is
skipped, with what is missing.

``pytest --safemmap`` runs all tests under `safemmap.enable`: a fault fails the test
that meets it, where it would end the run.

This is a module of its own, and imports nothing before a test wants a fixture, so that
it costs nothing where it is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from safemmap.testing import FaultSource


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("safemmap").addoption(
        "--safemmap",
        action="store_true",
        help="protect every mapping of a file, so that a SIGBUS fails one test",
    )


@pytest.hookimpl(trylast=True)  # above faulthandler
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--safemmap"):
        import safemmap

        try:
            safemmap.enable()
        except (OSError, RuntimeError) as error:
            raise pytest.UsageError(f"--safemmap: {error}") from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fault_source" in metafunc.fixturenames:
        from safemmap.testing import SOURCES

        sources = [source for source in SOURCES.values() if not source.destructive]
        metafunc.parametrize(
            "fault_source",
            sources,
            indirect=True,
            ids=[source.name for source in sources],
        )


@pytest.fixture
def fault_source(
    request: pytest.FixtureRequest, new_fault_source: Callable[..., FaultSource]
) -> FaultSource:
    """A `safemmap.testing.FaultSource` of each kind in turn, but for those that the
    machine does not get over. Not all of them raise a signal (`raises_signal`), and
    some want to be mapped with flags of their own (`map_flags`)."""
    return new_fault_source(request.param)


@pytest.fixture
def new_fault_source() -> Iterator[Callable[..., Any]]:
    """``new_fault_source(testing.Shrink, size=1 << 20)``: a source that is entered, and
    ends with the test."""
    with ExitStack() as stack:

        def new(kind: type[FaultSource], **options: Any) -> FaultSource:
            reason = kind.missing()
            if reason is not None:
                pytest.skip(f"{kind.name}: {reason}")
            return stack.enter_context(kind(**options))

        yield new
