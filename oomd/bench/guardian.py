"""Nothing of a bench outlives it: a process of its own that kills every victim, thaws and removes every control group,
when the bench tells it to or is gone, however it went.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time

REMOVE_S = 5.0
"""How long a control group is tried to be removed: its last process may still be on its way out."""
LONGEST_MESSAGE = 8192
"""Two paths of the kernel's longest."""


class GuardianLostError(Exception):
    """The guardian has ended before the bench: nothing more may be started."""


class Guardian:
    """The bench's side."""

    def __init__(self) -> None:
        script = os.path.abspath(__file__)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A session of its own: what ends the bench's process group or terminal must not end it.
        argv = [sys.executable, "-I", "-S", script]
        self._process = subprocess.Popen(argv, stdin=theirs.fileno(), start_new_session=True)
        theirs.close()
        self.pid = self._process.pid

    def guard_process(self, pid: int) -> None:
        """A child of ours, not yet waited for. Raises ChildProcessError for anybody else, GuardianLostError.

        A descriptor is handed over, no number: what is still on its way when we are killed means this very process, and
        nobody who is given its number afterwards.
        """
        pidfd = os.pidfd_open(pid)
        try:
            # After it was opened: nobody but us can have made the number free for another process.
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            self._say(b"process", pidfd)
        finally:
            os.close(pidfd)

    def guard_group(self, directory: str) -> None:
        """A control group of ours. Raises GuardianLostError."""
        self._say(b"group " + os.fsencode(directory))

    def close(self) -> None:
        """Clean up, and end."""
        self._socket.close()
        self._process.wait()

    def _say(self, message: bytes, *descriptors: int) -> None:
        try:
            socket.send_fds(self._socket, [message], descriptors)
        except OSError as error:
            raise GuardianLostError(f"the guardian process has ended ({error.strerror})") from error


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
        except OSError as error:
            if time.monotonic() > end:
                os.write(2, f"oomd bench: {directory} could not be removed: {error.strerror}\n".encode())
                return
            time.sleep(0.01)


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def drop_ended(pidfds: list[int]) -> list[int]:
    """Those whose process lives, so that a long bench does not use up our descriptors; the others are closed."""
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    ended = {pidfd for pidfd, _ in poll.poll(0)}
    for pidfd in ended:
        os.close(pidfd)
    return [pidfd for pidfd in pidfds if pidfd not in ended]


def listen(bench: socket.socket, pidfds: list[int], groups: list[str]) -> None:
    """Note what the bench says until it ends, or until somebody cannot be guarded: then nobody goes on."""
    while True:
        message, passed, _, _ = socket.recv_fds(bench, LONGEST_MESSAGE, 1)
        pidfds[:] = [*drop_ended(pidfds), *passed]
        if message == b"process" and not passed:
            os.write(2, b"oomd bench: no file descriptor is left to guard another process\n")
            return
        if message.startswith(b"group "):
            groups.append(os.fsdecode(message[6:]))
        if not message:
            return


def main() -> None:
    """Wait for the end of the bench, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    pidfds: list[int] = []
    groups: list[str] = []
    with contextlib.suppress(OSError), socket.socket(fileno=0) as bench:
        listen(bench, pidfds, groups)
    for pidfd in pidfds:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    for group in groups:
        clean_group(group)


if __name__ == "__main__":
    main()
