"""org.freedesktop.LowMemoryMonitor, with a real bus, heard by a real GMemoryMonitor."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oomd.outside.low_memory import NAME, LowMemory
from oomd.outside.reporter import note
from tests.outside.bus import OwnBus, running_bus
from tests.waiting import is_ready

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
CLIENT = (Path(__file__).parent / "glib_client.py").read_text(encoding="utf-8")
PYTHON = "/usr/bin/python3"
NOBODY = 65534
PATIENCE_S = 90.0


def has_glib() -> bool:
    """Whether the distribution's Python has GLib's bindings."""
    if not os.path.exists(PYTHON):
        return False
    done = subprocess.run([PYTHON, "-c", "import gi.repository.Gio"], capture_output=True, check=False, timeout=120)
    return done.returncode == 0


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    path = Path(tempfile.mkdtemp(prefix="oomd-bus-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@contextmanager
def program(bus: OwnBus, user: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A GLib program that listens."""
    if not has_glib():
        pytest.skip("python3-gi is not installed; make test installs it")
    process = subprocess.Popen(
        [PYTHON, "-c", CLIENT],
        env={"PATH": "/usr/bin", "DBUS_SYSTEM_BUS_ADDRESS": bus.address},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd="/",
        user=user,
    )
    try:
        yield process
    finally:
        process.communicate(timeout=PATIENCE_S)


def read(process: subprocess.Popen[str]) -> str:
    """The next word that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(monitor: LowMemory, level: int) -> None:
    """As the killer does."""
    monitor.hear({"event": "shortage", "time": 0.0, "level": level, "status": {"available_bytes": 1}})


@pytest.mark.parametrize("user", [None, NOBODY])
def test_programs_of_every_user_hear_each_level(open_folder: Path, user: int | None) -> None:
    """As GLib has them; other events are not theirs."""
    if user is not None and os.geteuid() != 0:
        pytest.skip("needs root to be somebody else")
    said: list[str] = []
    with running_bus(open_folder) as bus:
        monitor = LowMemory(said.append, bus.address)
        try:
            with program(bus, user) as process:
                assert read(process) == "hears"
                until_heard(process, monitor)
                monitor.hear(note("something else"))
                tell(monitor, 100)
                while (word := read(process)) == "50":
                    continue  # what was said once too often
                assert word == "100"
                tell(monitor, 255)
                assert read(process) == "255"
        finally:
            monitor.close()
    assert said == []


def until_heard(process: subprocess.Popen[str], monitor: LowMemory) -> None:
    """GLib asks the bus for more before it listens: say the lowest level until it was heard."""
    end = time.monotonic() + PATIENCE_S
    assert process.stdout is not None
    while not is_ready(process.stdout, 0.05):
        assert time.monotonic() < end
        tell(monitor, 50)


def test_name_that_somebody_else_has_is_told(tmp_path: Path) -> None:
    """low-memory-monitor itself runs: once, and nothing else comes of it."""
    said: list[str] = []
    with running_bus(tmp_path) as bus:
        first = LowMemory(said.append, bus.address)
        end = time.monotonic() + PATIENCE_S
        while NAME not in bus.busctl("list", "--acquired").stdout:
            assert time.monotonic() < end
        second = LowMemory(said.append, bus.address)
        while not said:
            assert time.monotonic() < end
            time.sleep(0.01)
        tell(second, 50)
        second.close()
        first.close()
    assert said == [f"tell.low_memory_monitor: somebody else has the name {NAME}"]


def test_no_bus_is_told_once(tmp_path: Path) -> None:
    """A container without one: said, and tried again later."""
    said: list[str] = []
    monitor = LowMemory(said.append, OwnBus(tmp_path).address)
    end = time.monotonic() + PATIENCE_S
    while not said:
        assert time.monotonic() < end
        time.sleep(0.01)
    tell(monitor, 255)
    monitor.close()
    (text,) = said
    assert text.startswith("tell.low_memory_monitor: unix:path=")


def test_without_its_policy_the_name_is_refused(tmp_path: Path) -> None:
    """make install brings it."""
    said: list[str] = []
    with running_bus(tmp_path, policy=False) as bus:
        monitor = LowMemory(said.append, bus.address)
        end = time.monotonic() + PATIENCE_S
        while not said:
            assert time.monotonic() < end
            time.sleep(0.01)
        monitor.close()
    assert NAME in said[0]
