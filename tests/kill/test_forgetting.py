"""The kernel forgets what a process touched, on real processes that the test started."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.scope import ScopeGuard
from oomd.kernel.smaps import read_rollup
from oomd.kill.forgetting import LARGEST_BYTES, Forget, Forgetting, why_not_everybody
from oomd.kill.warrant import Gate
from oomd.lmkd.processes import read_identity
from oomd.model.scope import parse_scope
from tests.descriptors import open_descriptors, opened_since
from tests.fakes.proc_tree import MIB
from tests.integration.harness import ACTORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomd.model.snapshot import Process

pytestmark = pytest.mark.integration


@pytest.fixture
def proc_fd() -> Iterator[int]:
    """The real procfs."""
    fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    """A child that owns 40 MiB and lets them lie."""
    command = [sys.executable, ACTORS, "hold", "holder", "40"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.kill()


def forgetting(proc_fd: int, scope: str = "") -> Forgetting:
    """Within the tree of this process, or another scope."""
    guard = ScopeGuard(parse_scope(scope or f"tree:{os.getpid()}"), proc_fd)
    return Forgetting(Gate(guard, proc_fd, frozenset()), proc_fd)


def identity(proc_fd: int, pid: int) -> Process:
    """Who it is."""
    found = read_identity(proc_fd, pid)
    assert found is not None
    return found


def untouched(proc_fd: int, pid: int) -> int:
    """What smaps_rollup says of it now."""
    rollup = read_rollup(proc_fd, pid)
    assert rollup is not None
    assert rollup.untouched_bytes is not None
    return rollup.untouched_bytes


def test_what_lies_still_is_seen_to(proc_fd: int, holder: subprocess.Popen[bytes]) -> None:
    """Everything counts as touched until the kernel forgets; what is not touched then stays untouched. The process
    goes on, and no descriptor is left.
    """
    chosen = identity(proc_fd, holder.pid)
    one = forgetting(proc_fd)
    before = open_descriptors()
    assert untouched(proc_fd, holder.pid) < 10 * MIB
    prepared = one.prepare(chosen)
    assert prepared is not None
    assert untouched(proc_fd, holder.pid) < 10 * MIB  # not yet
    assert prepared.carry_out() == 0
    prepared.let_go()
    assert untouched(proc_fd, holder.pid) > 30 * MIB
    assert opened_since(before) == []
    assert holder.poll() is None


def test_who_may_not_be_touched(proc_fd: int, holder: subprocess.Popen[bytes]) -> None:
    """Without a warrant nothing is done: out of scope, another process by now, too large to be held up."""
    chosen = identity(proc_fd, holder.pid)
    with subprocess.Popen(["sleep", "300"]) as other:
        outside = forgetting(proc_fd, f"tree:{other.pid}").prepare(chosen)
        other.kill()
    assert outside is None
    one = forgetting(proc_fd)
    assert one.prepare(replace(chosen, id=replace(chosen.id, start_ticks=chosen.id.start_ticks + 1))) is None
    assert one.prepare(replace(chosen, rss_anon_bytes=LARGEST_BYTES + 1)) is None
    assert untouched(proc_fd, holder.pid) < 10 * MIB


def test_who_is_gone(proc_fd: int) -> None:
    """It ended after the warrant was granted: an errno, no error; nobody of the same pid is touched."""
    with subprocess.Popen(["sleep", "300"]) as child:
        prepared = forgetting(proc_fd).prepare(identity(proc_fd, child.pid))
        child.kill()
        child.wait()
    assert isinstance(prepared, Forget)
    assert prepared.carry_out() in (errno.ENOENT, errno.ESRCH)
    prepared.let_go()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_somebody_elses(proc_fd: int, holder: subprocess.Popen[bytes]) -> None:
    """A daemon that may neither write over modes nor signal others is told so by an errno."""
    prepared = forgetting(proc_fd).prepare(identity(proc_fd, holder.pid))
    assert prepared is not None
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        os._exit(prepared.carry_out())
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (errno.EACCES, errno.EPERM)
    prepared.let_go()


def test_what_is_lost() -> None:
    """In words, before anybody wonders."""
    assert "dry run" in why_not_everybody(frozenset({"CAP_DAC_OVERRIDE"}), dry_run=True)
    assert "CAP_DAC_OVERRIDE" in why_not_everybody(frozenset(), dry_run=False)
    if os.geteuid() == 0:
        assert why_not_everybody(frozenset({"CAP_DAC_OVERRIDE"}), dry_run=False) == ""
