"""A PID namespace of our own, full of processes of our own: whoever kills there reaches nobody else, and whoever looks
for a victim there sees nobody else.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

BREEDER = str(Path(__file__).with_name("breeder.py"))
ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
LOOK_S = 1.0


def command(module: str, *words: str) -> list[str]:
    """The command line that runs a module of ours as the first process of a namespace; all of it ends with that one."""
    unshare = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
    return [*unshare, sys.executable, "-m", module, *words]


def why_not() -> str:
    """Why there can be no such namespace here; empty where there can."""
    argv = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "true"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return "unshare is not installed"
    return done.stderr.strip()


class Population:
    """The processes; made by one program, whose descendants all of them are."""

    def __init__(self) -> None:
        # earlyoom takes pid 2 for the kernel's, and spares it with all that it has started (README of the field).
        self._second = subprocess.Popen(["sleep", "1000000"])
        self._breeder = subprocess.Popen(
            [sys.executable, "-I", "-S", BREEDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._breeder.stdout is not None
        self._news = self._breeder.stdout.fileno()
        self._unread = b""
        self._lines: list[list[str]] = []
        self.idle = 0

    def idle_to(self, count: int) -> None:
        """So many processes that sleep, no fewer than before."""
        self._tell(f"idle {count - self.idle}")
        assert self._wait("ready", "idle"), "no idle processes"
        self.idle = count

    def bear(self, kind: str, *numbers: float) -> int:
        """One that is ready; its pid."""
        self._tell(" ".join([kind, *map(str, numbers)]))
        line = self._wait("ready", kind)
        assert line, f"no {kind}"
        return int(line[2])

    def leap(self, pid: int) -> bool:
        """Have this one take its memory at once; back when it has. False where it is dead."""
        self._tell(f"go {pid}")
        while os.path.exists(f"/proc/{pid}"):
            line = self._wait("ready", "leapt", LOOK_S)
            if line and int(line[2]) == pid:
                return True
        return False

    def end(self, pid: int) -> None:
        """Kill this one of ours."""
        self._tell(f"end {pid}")

    def close(self) -> None:
        """End everybody."""
        assert self._breeder.stdin is not None
        self._breeder.stdin.close()
        self._breeder.wait(PATIENCE_S)

    def _tell(self, line: str) -> None:
        assert self._breeder.stdin is not None
        self._breeder.stdin.write(line.encode() + b"\n")

    def _read(self) -> bool:
        data = os.read(self._news, 65536)
        *lines, self._unread = (self._unread + data).split(b"\n")
        self._lines += [line.decode().split() for line in lines]
        return bool(data)

    def _wait(self, word: str, kind: str, patience_s: float = PATIENCE_S) -> list[str]:
        """The next line of this kind; nothing where it does not come in time."""
        end = time.monotonic() + patience_s
        while True:
            for place, line in enumerate(self._lines):
                if line[:2] == [word, kind]:
                    return self._lines.pop(place)
            left = end - time.monotonic()
            if left <= 0:
                return []
            if select.select([self._news], [], [], left)[0]:
                assert self._read(), "the breeder has ended"


class Meminfo:
    """A file in the place of /proc/meminfo: this machine's, without swap, and what is available is what we say. So a
    run depends neither on the size of the machine nor on what strangers allocate.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = Path("/proc/meminfo").read_text("ascii").splitlines(keepends=True)
        self._lines = [f"{line.split()[0]} 0 kB\n" if line.startswith("Swap") else line for line in lines]
        self.total_mib = int(lines[0].split()[1]) // 1024
        path.touch()
        self._fd = os.open(path, os.O_WRONLY)
        self.say(self.total_mib * 3 // 4)

    def say(self, available_mib: float) -> None:
        """So much is available from now on."""
        told = f"MemAvailable: {available_mib * 1024:14.0f} kB\n"
        text = "".join(told if line.startswith("MemAvailable:") else line for line in self._lines)
        os.pwrite(self._fd, text.encode(), 0)

    def shown_to(self, argv: list[str]) -> list[str]:
        """The command that runs this one where the file is shown."""
        script = f'mount --bind {self.path} /proc/meminfo && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh", *argv]


def count_processes() -> int:
    """All that this procfs shows."""
    return sum(name.isdecimal() for name in os.listdir("/proc"))
