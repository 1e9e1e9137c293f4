"""Shared memory that a process has to itself, on real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from oomd.kernel.files import PAGE_BYTES
from oomd.kernel.smaps import read_rollup
from oomd.model.units import MIB
from oomd.monitor.own_shmem import MOST_KIN, kin_of, read_own_shmem
from oomd.monitor.rows import Row, read_row
from tests.integration.harness import ACTORS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def proc_fd() -> Iterator[int]:
    """The real procfs."""
    fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@contextmanager
def sharing(*words: str) -> Iterator[int]:
    """An actor with shared memory; its pid."""
    with subprocess.Popen([sys.executable, ACTORS, "share", *words], stdout=subprocess.PIPE) as actor:
        assert actor.stdout is not None
        actor.stdout.readline()
        try:
            yield actor.pid
        finally:
            actor.kill()
            with suppress(FileNotFoundError):
                os.unlink(f"/dev/shm/oomd-test-{actor.pid}")


def row_of(proc_fd: int, pid: int) -> Row:
    """Its row."""
    row = read_row(proc_fd, pid, PAGE_BYTES)
    assert row is not None
    assert row.read_status(proc_fd)
    return row


def own_mib(proc_fd: int, pid: int) -> int:
    """How much is its own, whoever else there is."""
    pids = [pid, os.getpid(), *(child.pid for child in psutil.Process(pid).children())]
    rows = [row_of(proc_fd, each) for each in pids]
    rollup = read_rollup(proc_fd, pid)
    assert rollup is not None
    return read_own_shmem(proc_fd, pid, kin_of(rows[0], rows), rollup) // MIB


@pytest.mark.parametrize(("kind", "least"), [("memfd", 79), ("anonymous", 79), ("named", 0)])
def test_what_goes_with_the_process(proc_fd: int, kind: str, least: int) -> None:
    """A memfd and an anonymous mapping do; a file in tmpfs that has a name stays."""
    with sharing("holder", "80", kind) as pid:
        assert row_of(proc_fd, pid).shmem_bytes >= 79 * MIB
        assert least <= own_mib(proc_fd, pid) <= (80 if least else 0)


def test_what_children_inherited_is_not_its_own(proc_fd: int) -> None:
    """They never touched it, so that no figure of theirs shows it; it stays as long as one of them lives. Neither is it
    theirs.
    """
    with sharing("server", "80", "anonymous", "2") as pid:
        (child, _) = psutil.Process(pid).children()
        assert row_of(proc_fd, child.pid).shmem_bytes < MIB
        assert own_mib(proc_fd, pid) == 0


def test_little_is_not_looked_at(proc_fd: int) -> None:
    """Below 64 MiB nobody's mappings are read."""
    with sharing("holder", "20") as pid:
        assert own_mib(proc_fd, pid) == 0


def test_kin(proc_fd: int) -> None:
    """The parent (not the first process), children, siblings of the same name; a few at most."""
    row = row_of(proc_fd, os.getpid())
    row.ppid = 10**5  # whoever has started us
    others = [row_of(proc_fd, os.getpid()) for _ in range(2 * MOST_KIN)]
    for number, other in enumerate(others):
        other.pid = 10**6 + number
        other.ppid = row.pid if number % 2 else row.ppid
    others[0].comm = "stranger"
    found = kin_of(row, others)
    assert found[:2] == (10**5, 10**6 + 1)
    assert 10**6 not in found
    assert len(found) == MOST_KIN
    row.ppid = 1
    assert kin_of(row, []) == ()
