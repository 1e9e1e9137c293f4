"""One run of a program that somebody configured: facts go in, its end or its deadline comes out. Nothing of ours goes
with it but three descriptors.

It is over when its first process ends or the deadline has passed; whoever is left in its process group is killed then,
while the first process is not yet waited for, so that the group's number cannot be anybody else's. What a hook wants to
leave running belongs to a service manager (``systemctl start --no-block``), or into a session of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from oomd.kernel.syscalls import IOPRIO_CLASS_BE, ioprio_set_thread
from oomd.model.values import dataclass

if TYPE_CHECKING:
    from oomd.model.report import Plain

IO_LEVEL = 4
"""Of those who asked for none."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOST_OUTPUT = 2048
"""Bytes of what it says that are kept for the record; the rest is read and dropped."""
MOST_READS = 16
"""At a time: a full pipe has been read by then."""
MOST_VALUE = 4096
"""Bytes of one variable."""
DYING_S = 1.0
"""How long a process that was killed is waited for; one in uninterruptible sleep stays behind."""
DONE, FAILED, LATE, NOT_STARTED = "done", "failed", "late", "not_started"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one hook."""

    hook: str
    """The program's path, or the socket's."""
    status: str
    """``done``, ``failed`` (see what it returned), ``late`` (killed at its deadline, or given up), ``not_started``."""
    took_us: int = 0
    exit_status: int | None = None
    """Of a program that ended by itself."""
    signal: int | None = None
    """That ended it."""
    text: str = ""
    """What it said, or why it was not started."""


class Program:
    """Started by :meth:`start`, watched until :attr:`result` is there."""

    def __init__(self, argv: list[str], facts: Plain, environment: dict[str, str], patience_s: float) -> None:
        """``facts`` are its standard input, as JSON."""
        self.end_s = time.monotonic() + patience_s
        self.result: Result | None = None
        self._argv = argv
        self._facts = facts
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = self._output_fd = -1
        self._output = b""
        self._begin_s = time.monotonic()

    def start(self) -> None:
        """Begin. Where that cannot be done the result is there at once."""
        given = theirs = -1
        try:
            given = _written(json.dumps(self._facts).encode())
            self._output_fd, theirs = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._output_fd, False)
            self._process = subprocess.Popen(
                self._argv,
                stdin=given,
                stdout=theirs,
                stderr=theirs,
                env=environment_of(self._environment),
                cwd="/",
                start_new_session=True,
            )
            self._pidfd = os.pidfd_open(self._process.pid)
        except (OSError, ValueError) as error:
            if self._process is not None:  # nobody could wait for it
                self._process.kill()
            self._finish(NOT_STARTED, text=getattr(error, "strerror", None) or str(error))
        else:
            _make_ordinary(self._process.pid)
        finally:
            for fd in (given, theirs):
                if fd >= 0:
                    os.close(fd)

    def fds(self) -> list[int]:
        """What to wait for."""
        return [fd for fd in (self._pidfd, self._output_fd) if fd >= 0]

    def step(self) -> None:
        """Something became ready."""
        self._drain()
        if self.result is None and self._has_ended():
            self._end(FAILED)

    def give_up(self) -> None:
        """Its time is over."""
        if self.result is None and self._process is not None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._has_ended(DYING_S)
            self._end(LATE)

    def _has_ended(self, patience_s: float = 0.0) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(patience_s * 1000))

    def _end(self, status: str) -> None:
        """It ended, or should have."""
        assert self._process is not None
        with contextlib.suppress(OSError):  # before it is waited for: until then its number is its own
            os.killpg(self._process.pid, signal.SIGKILL)
        self._drain()
        returned = self._process.poll()
        if status == LATE or returned is None:
            self._finish(LATE)
        elif returned < 0:
            self._finish(FAILED, signal=-returned)
        else:
            self._finish(FAILED if returned else DONE, exit_status=returned)

    def _finish(
        self, status: str, *, exit_status: int | None = None, signal: int | None = None, text: str | None = None
    ) -> None:
        said = self._output.decode("utf-8", "backslashreplace").strip() if text is None else text
        took_us = int((time.monotonic() - self._begin_s) * 1e6)
        self.result = Result(self._argv[0], status, took_us, exit_status, signal, said)
        for fd in self.fds():
            os.close(fd)
        self._pidfd = self._output_fd = -1

    def _drain(self) -> None:
        """Read some of what it says, so that it is not held up, and keep the beginning; never for as long as it goes on
        saying something.
        """
        for _ in range(MOST_READS):
            if self._output_fd < 0:
                return
            try:
                data = os.read(self._output_fd, 65536)
            except BlockingIOError:
                return
            if not data:
                os.close(self._output_fd)
                self._output_fd = -1
            self._output += data[: MOST_OUTPUT - len(self._output)]


def environment_of(facts: dict[str, str]) -> dict[bytes, bytes]:
    """The whole environment: nothing of ours, whose sockets and watchdogs are not the program's."""
    values = {"PATH": PATH, "LANG": "C.UTF-8", **facts}
    return {
        name.encode(): value.encode("utf-8", "backslashreplace").replace(b"\0", b"")[:MOST_VALUE]
        for name, value in values.items()
    }


def _written(data: bytes) -> int:
    """A descriptor from which this can be read. Raises OSError."""
    fd = os.memfd_create("oomd-facts", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd


def _make_ordinary(pid: int) -> None:
    """The kernel may kill it, and it stands behind others: it has got neither of our privileges by being ours."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "wb", buffering=0) as file:
        file.write(b"0")
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, 0)
    with contextlib.suppress(OSError):
        ioprio_set_thread(pid, IOPRIO_CLASS_BE, IO_LEVEL)
