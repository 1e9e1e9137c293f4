"""Two processes prepare one start: what the scout hands over, and whose end is whose."""

from __future__ import annotations

import _socket
import fcntl
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from oomd import image
from oomd.commands.scout import HANDED_FROM, Scout
from tests.integration.harness import PATIENCE_S
from tests.integration.test_run import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def file_of(text: bytes, *, inherited: bool) -> int:
    """A descriptor to read this from."""
    fd = os.memfd_create("of a test")
    os.pwrite(fd, text, 0)
    os.set_inheritable(fd, inherited)
    return fd


def test_what_is_handed_over_keeps_its_number() -> None:
    """Each descriptor arrives under the number that it had, inherited by others or not as it was; one that stands for
    none is left out, and what is named twice comes once.
    """
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    scout = Scout(os.getpid(), theirs)
    kept = scout.lift(file_of(b"kept", inherited=False))
    lent = scout.lift(file_of(b"lent", inherited=True))
    assert min(kept, lent) >= HANDED_FROM
    assert scout.lift(-1) == -1
    options = file_of(b"options", inherited=False)
    scout.report(options, (kept, -1, lent, kept))
    os.close(options)
    with open(os.devnull, "rb") as other:  # in this one process the numbers must not become free meanwhile
        for fd in (kept, lent):
            os.dup2(other.fileno(), fd)
    there = image._handed_over(ours.detach(), 0)
    try:
        assert [os.pread(fd, 16, 0) for fd in (there, kept, lent)] == [b"options", b"kept", b"lent"]
        assert [os.get_inheritable(fd) for fd in (there, kept, lent)] == [False, False, True]
    finally:
        for fd in (there, kept, lent):
            os.close(fd)
        theirs.close()


@contextmanager
def undecided(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process, Path]]:
    """An oomd whose scout waits for the configuration, the scout, and where it waits."""
    config = folder / "oomd.yaml"
    os.mkfifo(config)
    argv = [sys.executable, "-m", "oomd", "run", "--dry-run", "--runtime-dir", str(folder / "run")]
    process = subprocess.Popen(
        [*argv, "--scope", f"tree:{os.getpid()}", "--config", str(config)], stderr=subprocess.PIPE, process_group=0
    )
    leftover: list[psutil.Process] = []
    """A scout whose killer is gone may wait for ever."""
    try:
        children = psutil.Process(process.pid).children
        wait_until("there is a scout", lambda: bool(children()))
        scout = children()[0]
        leftover.append(scout)
        wait_until(
            "the killer's image waits for it", lambda: "killer.py" in " ".join(psutil.Process(process.pid).cmdline())
        )
        yield process, scout, config
    finally:
        process.kill()
        for each in leftover:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.communicate()


@pytest.mark.integration
def test_the_scouts_end_is_the_killers(tmp_path: Path) -> None:
    """A killer is never left waiting for nobody."""
    with undecided(tmp_path) as (process, scout, _):
        scout.kill()
        assert process.wait(PATIENCE_S) == 128 + signal.SIGKILL


@pytest.mark.integration
def test_a_mistake_that_the_scout_finds_is_the_killers_status(tmp_path: Path) -> None:
    """It is told with its place, as ever."""
    with undecided(tmp_path) as (process, _, config):
        config.write_bytes(b"scope: machine\nlevle: off\n")
        assert process.wait(PATIENCE_S) == 2
        assert process.stderr is not None
        assert f"{config}:2:1" in process.stderr.read().decode()


def open_for(config: Path) -> int:
    """Our end of the configuration, as soon as the scout has it open; -1 before."""
    try:
        return os.open(config, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # ENXIO
        return -1


@pytest.mark.integration
def test_a_terminals_interrupt_ends_both(tmp_path: Path) -> None:
    """Without a word of Python's. What a shell starts in the background ignores it, so that it is set here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with undecided(tmp_path) as (process, scout, config):
            end = -1

            def reads() -> bool:
                nonlocal end
                end = open_for(config)
                return end >= 0

            wait_until("the scout has it open", reads)
            # A signal between Python's last look for one and the system call is seen when that call ends, by the next.
            wait_until("the scout reads", lambda: scout.status() == psutil.STATUS_SLEEPING)
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(PATIENCE_S) == 130
            os.close(end)
            assert process.stderr is not None
            assert process.stderr.read() == b""
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.integration
def test_a_scout_without_a_killer_becomes_nothing(tmp_path: Path) -> None:
    """It ends, and lets go of the lock."""
    with undecided(tmp_path) as (process, scout, config):
        process.kill()
        process.wait(PATIENCE_S)
        config.write_bytes(b"scope: machine\n")
        wait_until("the scout has ended", lambda: not scout.is_running() or scout.status() == psutil.STATUS_ZOMBIE)
    with open(tmp_path / "run" / "lock", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert lock.read().strip() == str(process.pid)
