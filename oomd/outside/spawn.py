"""Start the outside process. Used before the killer replaces its image, and by the killer when the outside has died."""

from __future__ import annotations

import _socket  # the C module alone: `socket` costs the killer 0.65 MiB
import os

from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the C module alone: `signal` brings enum

SEND_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Outside:
    """A started outside process and our end of its link."""

    pid: int
    link_fd: int


def make_link() -> tuple[int, int]:
    """A new link: our end, and the other, which is inherited."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    ours.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    theirs.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    link_fd, other_fd = ours.detach(), theirs.detach()
    os.set_blocking(link_fd, False)
    os.set_inheritable(other_fd, True)
    return link_fd, other_fd


def arguments_of(argv: list[str], link_option: str, other_fd: int) -> list[str]:
    """The command line with the number of this end in it."""
    return [argument.replace(link_option, str(other_fd)) for argument in argv]


def spawn_outside(argv: list[str], link_option: str) -> Outside:
    """Start ``argv`` with the other end of a new link; ``link_option`` in it is replaced by that descriptor's number.

    posix_spawn, because it shares our memory until exec instead of copying page tables. The link is non-blocking on our
    side only.
    """
    link_fd, other_fd = make_link()
    try:
        pid = os.posix_spawn(
            argv[0],
            arguments_of(argv, link_option, other_fd),
            os.environ,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGCHLD),
        )
    except OSError:
        os.close(link_fd)
        raise
    finally:
        os.close(other_fd)
    return Outside(pid, link_fd)
