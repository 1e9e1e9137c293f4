"""Nothing of a bench outlives it: a process of its own that kills every victim, thaws and removes every control group,
when the bench tells it to or is gone, however it went.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

REMOVE_S = 5.0
"""How long a control group is tried to be removed: its last process may still be on its way out."""


class Guardian:
    """The bench's side."""

    def __init__(self) -> None:
        script = os.path.abspath(__file__)
        # A session of its own: what ends the bench's process group or terminal must not end it.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", script], stdin=subprocess.PIPE, start_new_session=True
        )

    def guard_process(self, pid: int) -> None:
        """A child of ours, not yet waited for."""
        self._say(f"process {pid}")

    def guard_group(self, directory: str) -> None:
        """A control group of ours."""
        self._say(f"group {directory}")

    def close(self) -> None:
        """Clean up, and end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()


def clean_group(directory: str) -> None:
    """Thaw it, let go whoever is left in it, remove it."""
    for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        with contextlib.suppress(OSError):
            _write(f"{directory}/{name}", value)
    end = time.monotonic() + REMOVE_S
    while os.path.isdir(directory):
        with contextlib.suppress(OSError), open(f"{directory}/cgroup.procs", encoding="ascii") as file:
            for pid in file.read().split():
                with contextlib.suppress(OSError):
                    _write(f"{os.path.dirname(directory)}/cgroup.procs", pid)
        try:
            os.rmdir(directory)
        except OSError:
            if time.monotonic() > end:
                return
            time.sleep(0.01)


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def main() -> None:
    """Wait for the end of standard input, then clean up."""
    bench = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pidfds: list[int] = []
    groups: list[str] = []
    for line in sys.stdin:
        kind, _, rest = line.rstrip("\n").partition(" ")
        if kind == "group":
            groups.append(rest)
        elif kind == "process":
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(int(rest))
                with open(f"/proc/{rest}/stat", encoding="utf-8", errors="replace") as file:
                    parent = int(file.read().rpartition(") ")[2].split()[1])
                # A number that the bench no longer owns may be anybody's by now.
                if parent == bench:
                    pidfds.append(pidfd)
                else:
                    os.close(pidfd)
    for pidfd in pidfds:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    for group in groups:
        clean_group(group)


if __name__ == "__main__":
    main()
