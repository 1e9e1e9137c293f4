"""A small world for a daemon under test, in a mount namespace of its own: a /run with a real journald, and with a real
message bus that is the system's and its user's at once. Nobody else sees it; it is gone with its last process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from oomd.outside.journal import SOCKET
from tests.outside.bus import OwnBus, running_bus

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "OOMD_BENCH_NAMESPACE"
JOURNALD = "/lib/systemd/systemd-journald"
# Not a word of the machine's own: neither its kernel log nor its audit, which journald would switch on.
JOURNALD_CONF = "[Journal]\nStorage=volatile\nRuntimeMaxUse=16M\nReadKMsg=no\nAudit=no\nForwardToWall=no\n"
HOOK_SOCKET = Path("/run/systemd/oomd.prekill.hook/deaf")
PATIENCE_S = 20.0


def enter() -> None:
    """Go on in a mount namespace of our own; returns there. Needs root."""
    if MARK in os.environ:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755,size=64m", "tmpfs", "/run"], check=True)
        return
    module = sys.modules["__main__"].__spec__
    assert module is not None
    words = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", module.name, *sys.argv[1:]]
    os.environ[MARK] = "1"
    os.execvp(words[0], words)


class Journald:
    """The journal of this namespace."""

    def __init__(self) -> None:
        settings = Path("/run/systemd/journald.conf.d/bench.conf")
        for folder in (settings.parent, Path(SOCKET).parent, Path("/run/log/journal")):
            folder.mkdir(parents=True, exist_ok=True)
        settings.write_text(JOURNALD_CONF, encoding="utf-8")
        self._process = subprocess.Popen([JOURNALD], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE_S
        while not os.path.exists(SOCKET):
            assert time.monotonic() < end, "journald does not start"
            assert self._process.poll() is None, "journald has ended"
            time.sleep(0.01)

    def entries(self, event: str) -> int:
        """How many of this kind it has."""
        (folder,) = Path("/run/log/journal").iterdir()
        words = ["journalctl", f"--directory={folder}", "--quiet", "--output=cat", f"OOMD_EVENT={event}"]
        done = subprocess.run(words, capture_output=True, check=False, timeout=PATIENCE_S)
        return done.stdout.count(b"SIGKILL to")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It takes nothing any more: what it would take is in its queue already."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                client.setblocking(False)
                client.connect(SOCKET)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        client.send(b"MESSAGE=one more\n")
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it, and forget what it has written."""
        self._process.kill()
        self._process.wait()
        for folder in (Path(SOCKET).parent, Path("/run/log/journal")):
            shutil.rmtree(folder)


@contextmanager
def user_bus(folder: Path) -> Iterator[OwnBus]:
    """Root's own message bus, which is the system's as well."""
    with running_bus(folder) as bus:
        place = Path("/run/user/0")
        place.mkdir(parents=True, exist_ok=True)
        (place / "bus").symlink_to(bus.address.removeprefix("unix:path="))
        os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = bus.address
        try:
            yield bus
        finally:
            (place / "bus").unlink()
            del os.environ["DBUS_SYSTEM_BUS_ADDRESS"]


@contextmanager
def deaf_hook() -> Iterator[None]:
    """A prekill hook that takes calls and never answers."""
    HOOK_SOCKET.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(HOOK_SOCKET))
        listener.listen()
        try:
            yield
        finally:
            HOOK_SOCKET.unlink()
