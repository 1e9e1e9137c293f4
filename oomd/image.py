"""Entry of the killer's image: prepares the interpreter, then runs the daemon."""

from __future__ import annotations

import _socket  # the C module alone: `socket` costs 0.65 MiB
import _thread
import marshal
import os
import sys

from oomd.daemon import Daemon
from oomd.kernel.maps import parse_code, read_maps
from oomd.kernel.syscalls import prctl_set_name, share_heap, unmap_pages
from oomd.kill.warrant import GateError
from oomd.model.scope import ScopeError
from oomd.options import Options
from oomd.ward import pass_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the C module alone: `signal` brings enum

SWITCH_INTERVAL_S = 1e-4
"""How long a busy thread of ours keeps the interpreter: a handoff costs 8 ms at p99 by default, 0.3 ms so."""
STACK_BYTES = 512 * 1024
"""Locked memory counts whole thread stacks; ours need a few KiB."""


def _restore(locale: str | None) -> None:
    """LC_ALL as it was, for whom we start: stage one had us begin without a locale."""
    os.environ.pop("LC_ALL", None)
    if locale is not None:
        os.environ["LC_ALL"] = locale


MATHEMATICS = b"libm.so"
"""The library of which the linker touches half a mebibyte to see what this CPU can do, and a killer needs little."""


def _slim() -> None:
    """Let go of what only loading us has touched; before memory is locked, and before the rehearsal, which touches
    again what is needed.
    """
    proc_fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for begin, end in parse_code(read_maps(proc_fd, os.getpid()), MATHEMATICS):
            unmap_pages(begin, end)
    except OSError:
        pass  # nobody may look at us, not even we: then we are larger
    finally:
        os.close(proc_fd)


MOST_HANDED = 64
"""More descriptors than are ever handed over."""


def _handed_over(channel_fd: int, scout_pid: int) -> int:
    """The descriptor of the options, from the scout; the others that it hands over have the numbers that it names.
    Where it has ended without a word, so do we.
    """
    channel = _socket.socket(fileno=channel_fd)
    data, ancillary, *_ = channel.recvmsg(4096, _socket.CMSG_SPACE(4 * MOST_HANDED), _socket.MSG_CMSG_CLOEXEC)
    channel.close()
    if not data:
        status = os.waitstatus_to_exitcode(os.waitpid(scout_pid, 0)[1])
        sys.exit(status if status >= 0 else 128 - status)
    rights = memoryview(ancillary[0][2]).cast("i")
    options_fd, *handed = rights
    for fd, (number, inheritable) in zip(handed, marshal.loads(data), strict=True):  # noqa: S302 - from our own fork
        os.dup2(fd, number, inheritable)
        os.close(fd)
    return options_fd


def main() -> None:
    """Entry of the killer's image; the argument is the descriptor of a memfd that holds the marshalled options, or with
    the pid of the scout (oomd/commands/scout.py) that of the socket through which it comes.
    """
    fd = int(sys.argv[1])
    if sys.argv[2:]:
        fd = _handed_over(fd, int(sys.argv[2]))
    with os.fdopen(fd, "rb") as file:
        options = Options(**marshal.loads(file.read()))  # noqa: S302 - written by our own first stage
    for kept in (options.link_fd, options.lock_fd, options.trace_fd, options.lmkd_fd):
        if kept >= 0:
            os.set_inheritable(kept, False)
    prctl_set_name(b"oomd")
    share_heap()
    _slim()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _thread.stack_size(STACK_BYTES)
    _restore(options.locale)
    try:
        daemon = Daemon(options)
    except (ScopeError, GateError) as error:
        sys.stderr.write(f"oomd: {error}\n")
        if options.child_pid:
            pass_signal(options.child_pid, signal.SIGTERM)  # never leave the command running unguarded
        sys.exit(2)
    except BaseException:
        if options.child_pid:
            pass_signal(options.child_pid, signal.SIGTERM)
        raise
    try:
        status = daemon.run()
    except BaseException:
        if options.child_pid:
            pass_signal(options.child_pid, signal.SIGTERM)
        raise
    sys.exit(status)
