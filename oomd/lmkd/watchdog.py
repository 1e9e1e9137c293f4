"""A process of its own that kills when the killer hangs: it has pidfds of everybody registered, over a socket pair.

The killer tells it of every record, and that it lives, at least every :data:`BEAT_US`. After two seconds of silence it
looks at memory again and again: as soon as that stands below the low watermark the least important process dies, and
two seconds later, if it still does, one more. Nothing else is done: no reap, no report, until the killer lives again
and hears of it.
"""

from __future__ import annotations

import _socket
import os
import struct
import time

from oomd.kernel.files import PAGE_BYTES, KernelFormatError
from oomd.kernel.sched import be_realtime
from oomd.kernel.syscalls import MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, mlockall, pidfd_send_signal, prctl_set_name
from oomd.lmkd.facts import FactsFiles
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Iterable

    from oomd.lmkd.registry import Record
else:
    import _signal as signal  # the C module alone: `signal` brings enum

HANG_US = 2_000_000
"""So long the killer may be silent."""
LOOK_US = 50_000
"""How often it then looks: from the low watermark to the kernel's own killer is but a moment."""
BEAT_US = 500_000
"""How often it says that it lives."""
REGISTER, FORGET, ALIVE, CLEAR = b"r", b"f", b"a", b"c"
_MESSAGE = struct.Struct("=ciiQ")
"""What, pid, adj, order."""
_KILLED = struct.Struct("=ii")
"""Pid and adj of whom the watchdog has killed."""
PRIORITY = 11
SIGKILL = 9


class Leash:
    """The killer's end. Never waits: what does not fit is sent again as a whole, later."""

    def __init__(self, fd: int) -> None:
        self._socket = _socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._complete = True
        self._beat_us = 0
        self.holds_back = False
        """Nobody is to be chosen for a while: the watchdog knows nobody then."""
        self.lost = False
        """Whether the watchdog has ended."""

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._socket.fileno()

    def note(self, record: Record) -> None:
        """A process was registered, or brought up to date."""
        message = _MESSAGE.pack(REGISTER, record.id.pid, record.adj, record.order)
        self._complete &= not self.holds_back and self._send(message, record.pidfd)

    def drop(self, pid: int) -> None:
        """It is registered no more."""
        self._complete &= self._send(_MESSAGE.pack(FORGET, pid, 0, 0))

    def beat(self, now_us: int, records: Iterable[Record]) -> None:
        """We live; and all that was lost is told anew."""
        if now_us - self._beat_us < BEAT_US:
            return
        self._beat_us = now_us
        self._send(_MESSAGE.pack(ALIVE, 0, 0, 0))
        if self.holds_back:
            self._complete = False
            self._send(_MESSAGE.pack(CLEAR, 0, 0, 0))
        elif not self._complete:
            self._complete = self._send(_MESSAGE.pack(CLEAR, 0, 0, 0))
            for record in records:
                self.note(record)

    def take_killed(self) -> list[tuple[int, int]]:
        """Pid and adj of those whom it killed meanwhile."""
        killed = []
        while not self.lost:
            try:
                data = self._socket.recv(_KILLED.size)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if len(data) == _KILLED.size:
                pid, adj = _KILLED.unpack(data)
                killed.append((pid, adj))
            else:
                self.lost = True
        return killed

    def close(self) -> None:
        """Let it end."""
        self._socket.close()

    def _send(self, data: bytes, pidfd: int = -1) -> bool:
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("=i", pidfd))] if pidfd >= 0 else []
        try:
            self._socket.sendmsg([data], rights, _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
        except OSError:  # full, or its end has ended
            return False
        return True


@dataclass(frozen=True, slots=True)
class Known:
    """Somebody registered."""

    pidfd: int
    adj: int
    order: int


class Watchdog:
    """What the process does."""

    def __init__(self, fd: int, proc_dir: str) -> None:
        self._socket = _socket.socket(fileno=fd)
        self._files = FactsFiles(proc_dir, PAGE_BYTES)
        self._known: dict[int, Known] = {}

    def run(self) -> None:
        """Until the killer has ended."""
        due_us = _clock_us() + HANG_US
        while True:
            left_us = due_us - _clock_us()
            if left_us <= 0:
                killed = self.act()
                left_us = HANG_US if killed else LOOK_US
                due_us = _clock_us() + left_us
            self._socket.settimeout(left_us / 1_000_000)
            try:
                data, ancillary, _, _ = self._socket.recvmsg(_MESSAGE.size, _socket.CMSG_SPACE(4))
            except TimeoutError:
                continue
            if len(data) != _MESSAGE.size:
                return
            due_us = _clock_us() + HANG_US
            self._take(data, ancillary)

    def act(self) -> bool:
        """The killer hangs: if memory is short, the least important one dies, of equal ones who was longest left alone.
        Never below 0. Whether somebody was killed.
        """
        try:
            facts = self._files.read(_clock_us(), count_lists=True)
        except (OSError, KernelFormatError):
            return False
        free = (facts.kb("MemFree") - facts.kb("CmaFree")) // facts.page_kb + facts.pcp_pages
        if free >= facts.marks.low_pages:
            return False
        for pid, known in sorted(self._known.items(), key=lambda each: (-each[1].adj, each[1].order)):
            if known.adj < 0:
                break
            self._forget(pid, close=False)
            try:
                pidfd_send_signal(known.pidfd, SIGKILL)
            except OSError:  # it has ended: the next one
                continue
            finally:
                os.close(known.pidfd)
            try:
                self._socket.send(_KILLED.pack(pid, known.adj), _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
            except OSError:
                pass
            return True
        return False

    def _take(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        what, pid, adj, order = _MESSAGE.unpack(data)
        fds = [fd for _, _, content in ancillary for (fd,) in struct.iter_unpack("=i", content)]
        if what == REGISTER and fds:
            self._forget(pid)
            self._known[pid] = Known(fds[0], adj, order)
        elif what == FORGET:
            self._forget(pid)
        elif what == CLEAR:
            for each in list(self._known):
                self._forget(each)

    def _forget(self, pid: int, *, close: bool = True) -> None:
        known = self._known.pop(pid, None)
        if known is not None and close:
            os.close(known.pidfd)


def main(fd: int, proc_dir: str = "/proc") -> None:
    """Entry of the process."""
    prctl_set_name(b"oomd-watchdog")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the killer ends, and we with it
    watchdog = Watchdog(fd, proc_dir)
    try:
        mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)
    except OSError:
        pass  # without the right to it
    be_realtime(PRIORITY)
    watchdog.run()


def command_of(link: str, proc_dir: str) -> tuple[str, ...]:
    """How to start it, behind the interpreter; ``link`` stands for its descriptor's number."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = f"import sys; sys.path[:0] = [{package!r}]; from oomd.lmkd.watchdog import main; main({link}, {proc_dir!r})"
    return ("-I", "-S", "-c", code)


def _clock_us() -> int:
    return time.monotonic_ns() // 1000
