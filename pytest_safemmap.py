"""For tests with pytest: faults on purpose, and tests that outlive faults.

`fault_source` runs a test once with each source of `safemmap.testing`, or with those
that the test names in ``@pytest.mark.parametrize("fault_source", [...],
indirect=True)``; `new_fault_source` makes those that a test asks for. What this machine
cannot do is skipped, with what is missing.

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
    if "fault_source" in metafunc.fixturenames and not _chooses(metafunc):
        from safemmap.testing import SOURCES

        sources = [source for source in SOURCES.values() if not source.destructive]
        metafunc.parametrize("fault_source", sources, indirect=True)


def _chooses(metafunc: pytest.Metafunc) -> bool:
    """Whether the test names its sources."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs["argnames"]
        if isinstance(names, str):
            names = [name.strip() for name in names.split(",")]
        if "fault_source" in names:
            return True
    return False


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    name = getattr(val, "name", val)
    if argname != "fault_source" or not isinstance(name, str):
        return None
    return name.replace(" ", "-")


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
    ends with the test. (Its name, ``"shrink"``, serves as well.)"""
    with ExitStack() as stack:

        def new(kind: type[FaultSource] | str, **options: Any) -> FaultSource:
            if isinstance(kind, str):
                kind = _named(kind)
            reason = kind.missing()
            if reason is not None:
                pytest.skip(f"{kind.name}: {reason}")
            return stack.enter_context(kind(**options))

        yield new


def _named(name: str) -> type[FaultSource]:
    from safemmap.testing import SOURCES

    try:
        return SOURCES[name]
    except KeyError:
        raise pytest.UsageError(
            f"no source of faults is called {name!r}; there are {', '.join(SOURCES)}"
        ) from None
