"""For all tests."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.descriptors import open_descriptors
from tests.ends import ending

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long one example takes says something of the machine that it ran on, and of what else ran there.
settings.register_profile("oomd", deadline=None)
settings.load_profile("oomd")

MOST_LEFT = 100
"""Descriptors that a run may leave open: a bound for leaks that repeat, no count."""
_BEFORE = pytest.StashKey[int]()
_LEFT = pytest.StashKey[list[str]]()


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """What the test opens until its end (:mod:`tests.ends`) is closed after everything else."""
    with ending():
        yield


def pytest_sessionstart(session: pytest.Session) -> None:
    """How many there are anyway."""
    session.config.stash[_BEFORE] = len(open_descriptors())


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run whose tests leave descriptors behind fails, though each of them passes."""
    gc.collect()
    left = sorted(open_descriptors().values())
    if len(left) - session.config.stash[_BEFORE] > MOST_LEFT:
        session.config.stash[_LEFT] = left
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """And says which."""
    left = config.stash.get(_LEFT, [])
    if left:
        terminalreporter.section("descriptors left open", red=True, bold=True)
        terminalreporter.write_line(f"{len(left)}, and {MOST_LEFT} may be left: tests.ends closes them with the test")
        for what in sorted(set(left)):
            terminalreporter.write_line(f"{left.count(what):5} {what}")
