"""The epoll, signals, sd_notify, and the sampler on real files."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from oomd.engine.calm import Calm
from oomd.kernel.files import PAGE_BYTES
from oomd.model.units import GIB, MIB
from oomd.monitor.notify import Notifier
from oomd.monitor.sampler import Sampler
from oomd.monitor.selfcheck import cgroup_version, own_capabilities, raise_shield, start_report
from oomd.monitor.waiter import Waiter
from tests.ends import until_end
from tests.fakes.proc_tree import ProcTree

if TYPE_CHECKING:
    from pathlib import Path


def test_waiter_answers_with_keys() -> None:
    """What is ready comes back by its key; what hung up says so; what is unwatched is forgotten."""
    waiter = until_end(Waiter())
    reading, writing = os.pipe()
    waiter.watch(reading, ("victim", 1))
    assert waiter.wait_ready(0) == []
    os.write(writing, b"x")
    assert waiter.wait_ready(1000) == [(("victim", 1), False)]
    os.read(reading, 1)
    os.close(writing)
    assert waiter.wait_ready(1000) == [(("victim", 1), True)]
    waiter.unwatch(reading)
    waiter.unwatch(reading)
    assert waiter.wait_ready(0) == []
    os.close(reading)


def test_dead_process_wakes_the_waiter() -> None:
    """A pidfd on the epoll becomes ready when the process has ended."""
    waiter = until_end(Waiter())
    sleeper = subprocess.Popen(["sleep", "300"])
    pidfd = os.pidfd_open(sleeper.pid)
    waiter.watch(pidfd, "victim")
    assert waiter.wait_ready(0) == []
    sleeper.kill()
    assert waiter.wait_ready(90_000_000) == [("victim", False)]
    sleeper.wait()
    waiter.unwatch(pidfd)
    os.close(pidfd)


def test_signals_arrive_as_bytes() -> None:
    """Each signal is a byte to read; none of them ends the process."""
    code = (
        "import os, signal; from oomd.monitor.waiter import SignalPipe\n"
        "pipe = SignalPipe((signal.SIGTERM, signal.SIGHUP))\n"
        "assert pipe.read_signals() == b''\n"
        "os.kill(os.getpid(), signal.SIGHUP); os.kill(os.getpid(), signal.SIGTERM)\n"
        "print(sorted(pipe.read_signals()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == str([int(signal.SIGHUP), int(signal.SIGTERM)])


def test_notifier(tmp_path: Path) -> None:
    """READY arrives; the watchdog is fed at a third of its time; nobody listening is no error."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        notifier = Notifier(str(tmp_path / "notify"), 30_000_000)
        notifier.send("READY=1")
        assert listener.recv(100) == b"READY=1"
        notifier.feed(10_000_000)
        notifier.feed(19_000_000)
        notifier.feed(20_000_000)
        assert [listener.recv(100), listener.recv(100)] == [b"WATCHDOG=1"] * 2
        listener.setblocking(False)
        try:
            extra = listener.recv(100)
        except BlockingIOError:
            extra = b""
        assert extra == b""
    notifier.send("READY=1")
    notifier.close()
    silent = Notifier("", 0)
    silent.send("READY=1")
    silent.feed(10**12)
    assert silent.feed_us == 0


def test_sampler_glances(tmp_path: Path) -> None:
    """Whether everything is within bounds; what was read is the next look's where it is not, and the last glance is
    told once, as a look at that time would have had it.
    """
    tree = ProcTree(tmp_path)
    tree.set_meminfo(total=8 * GIB, available=4 * GIB, swap_total=GIB, swap_free=GIB // 2)
    tree.set_pressure(some_us=50, full_us=20)
    sampler = until_end(Sampler(str(tmp_path), PAGE_BYTES))
    bounds = Calm(0, 3 * GIB, GIB // 4, most_some_us=51, most_full_us=21)
    assert sampler.can_glance
    assert sampler.take_glanced() is None
    assert sampler.glance(bounds, 7)
    seen = sampler.read_status(7)
    assert sampler.take_glanced() == seen
    assert sampler.take_glanced() is None
    for too_much in (
        replace(bounds, least_bytes=4 * GIB + 1),
        replace(bounds, least_swap_bytes=GIB // 2 + 1),
        replace(bounds, most_some_us=50),
        replace(bounds, most_full_us=20),
    ):
        assert not sampler.glance(too_much, 8)
        assert sampler.take_glanced() is None
        tree.set_meminfo(total=8 * GIB, available=GIB)
        assert sampler.read_levels(8).available_bytes == 4 * GIB
        tree.set_meminfo(total=8 * GIB, available=4 * GIB, swap_total=GIB, swap_free=GIB // 2)
    assert not until_end(Sampler(str(tmp_path), PAGE_BYTES, frozenset({"tasks"}))).can_glance


def test_sampler_reads_this_machine() -> None:
    """The real files give a plausible machine."""
    now = until_end(Sampler("/proc", PAGE_BYTES)).read_status(5, per_cpu_lists=True)
    assert now.time_us == 5
    assert 0 < now.mem_available_bytes <= now.mem_total_bytes
    assert now.pcp_bytes >= 0


def test_sampler_without_psi_zoneinfo_and_zfs(tmp_path: Path) -> None:
    """Only meminfo is needed; what is absent is absent in the status."""
    tree = ProcTree(tmp_path)
    tree.set_meminfo(total=8 * GIB, available=GIB, anon=2 * GIB, swap_total=GIB, swap_free=MIB)
    tree.without_pressure()
    sampler = until_end(Sampler(str(tmp_path), PAGE_BYTES))
    now = sampler.read_status(0)
    assert not sampler.has_pressure
    assert (now.psi_some_us, now.psi_full_us, now.pcp_bytes, now.arc_bytes) == (None, None, 0, 0)
    assert (now.available_bytes, now.swap_free_bytes) == (GIB, MIB)
    arc = tmp_path / "spl" / "kstat" / "zfs"
    arc.mkdir(parents=True)
    (arc / "arcstats").write_text(f"name type data\nsize 4 {3 * GIB}\nc_min 4 {GIB}\n", encoding="ascii")
    assert until_end(Sampler(str(tmp_path), PAGE_BYTES)).read_status(0).available_bytes == 3 * GIB


def test_start_report_of_this_machine() -> None:
    """The report says what is there, and every loss is a sentence."""
    code = (
        "import os, json; from oomd.monitor.selfcheck import *\n"
        "fd = os.open('/proc', os.O_RDONLY); held = own_capabilities(fd)\n"
        "print(json.dumps(start_report('/proc', raise_shield(held), held, ['earlyoom'], 'none')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "another killer is active (earlyoom)" in done.stdout
    assert all(callable(function) for function in (own_capabilities, raise_shield, start_report))
    assert cgroup_version() in {"v1", "v2", "hybrid", "none"}
