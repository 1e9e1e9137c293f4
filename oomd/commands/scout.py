"""The scout of ``oomd run``: two processes prepare one start.

The process that was started becomes the killer's image at once. A fork of it reads the command line and the
configuration meanwhile, tells the killer what came of it, with the descriptors that it has opened, and becomes the
outside process. Where something is wrong the scout says so, and its exit status is the killer's.
"""

from __future__ import annotations

import _socket  # the C module alone, as whatever is loaded here delays both
import fcntl
import marshal
import os
import resource
import sys

from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable
    from typing import NoReturn
else:
    import _signal as signal

MOST_DESCRIPTORS = 65_536
"""More than anything of ours ever needs."""
HANDED_FROM = 64
"""What is handed over keeps its numbers, which command lines name: from here on the killer uses none yet."""


@dataclass(frozen=True, slots=True)
class Scout:
    """We are the scout."""

    killer_pid: int
    channel: _socket.socket
    """The killer listens there."""

    def lift(self, fd: int) -> int:
        """The descriptor under a number that is free in the killer too; -1 stays what it is."""
        if fd < 0:
            return fd
        lifted = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HANDED_FROM)
        os.set_inheritable(lifted, os.get_inheritable(fd))
        os.close(fd)
        return lifted

    def report(self, options_fd: int, fds: Iterable[int]) -> None:
        """Hand over what the killer is to be (see oomd.image), and these descriptors (-1 for none) under their numbers.
        Raises OSError where there is no killer any more.
        """
        handed = [fd for fd in dict.fromkeys(fds) if fd >= 0]
        numbers = [(fd, os.get_inheritable(fd)) for fd in handed]
        rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (options_fd, *handed))
        self.channel.sendmsg([marshal.dumps(numbers)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])


def send_scout() -> Scout:
    """Fork. Returns in the scout only; this process becomes the killer."""
    killer_pid = os.getpid()
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    pid = os.fork()
    if pid:
        theirs.close()
        # From a terminal it reaches the scout as well, whose status tells; then it waits for the killer's handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
        become_image(ours.detach(), str(pid))
    ours.close()
    return Scout(killer_pid, theirs)


def become_image(fd: int, *words: str) -> NoReturn:
    """Become the killer's image, with what it is to be in this descriptor; does not return."""
    os.set_inheritable(fd, True)
    image = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "killer.py")
    raise_descriptor_limit()
    # It speaks to nobody in a language: without a locale's tables, which would be mapped and locked.
    locale = {**os.environ, "LC_ALL": "C"}
    os.execve(sys.executable, [sys.executable, "-I", "-S", "-X", "utf8=1", image, str(fd), *words], locale)


def become_outside(argv: list[str]) -> NoReturn:
    """Become the outside process, as a new one would begin."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execve(argv[0], argv, os.environ)


def raise_descriptor_limit() -> None:
    """As many descriptors as may be had: kept leaders and the victims of one kill need some hundreds each, and a kill
    that finds none left is a kill without a reap.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
