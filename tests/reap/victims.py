"""Children of the test's own that are there to be killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from oomd.model.decision import Warrant
from oomd.model.snapshot import ProcessId
from tests.integration.harness import ACTORS

if TYPE_CHECKING:
    from collections.abc import Iterator


def hold(mib: int) -> subprocess.Popen[bytes]:
    """One that owns so much memory."""
    child = subprocess.Popen([sys.executable, ACTORS, "hold", "victim", str(mib)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    return child


def warrant_of(pid: int) -> Warrant:
    """A warrant for a child of ours."""
    return Warrant(ProcessId(pid, 0), os.pidfd_open(pid), "victim", "test")


@contextlib.contextmanager
def warrants_of(*children: subprocess.Popen[bytes]) -> Iterator[tuple[Warrant, ...]]:
    """One for each; their pidfds are closed afterwards."""
    warrants = tuple(warrant_of(child.pid) for child in children)
    yield warrants
    for warrant in warrants:
        os.close(warrant.pidfd)
