"""memory.reclaim: the kernel takes cold pages from a cgroup and all below it (Linux 5.19); process_madvise with
MADV_PAGEOUT: from one process (5.10). Both last as long as the pages take to be written out, so they are done in small
pieces, by a thread of their own, and end between two pieces as soon as they are no longer wanted.
"""

from __future__ import annotations

import errno
import os
import time

from oomd.kernel.cgroup_dir import CgroupDirectory
from oomd.kernel.files import KernelFormatError
from oomd.kernel.maps import cut, parse_anonymous
from oomd.kernel.pidfd import is_readable
from oomd.kernel.process import parse_status, read_pid_file
from oomd.kernel.psi import parse_pressure
from oomd.kernel.syscalls import MADV_PAGEOUT, MOST_RANGES, process_madvise
from oomd.kill.members import Members
from oomd.kill.warrant import Refused
from oomd.kill.worker import Worker
from oomd.model.decision import DONE, IMPOSSIBLE, StepResult
from oomd.model.units import MIB
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oomd.kill.warrant import Gate
    from oomd.kill.worker import Results
    from oomd.model.decision import Warrant
    from oomd.model.snapshot import Process

CHUNK_BYTES = 16 * MIB
"""What is asked for at once: a fraction of a second even where it is written to a slow disk."""
PROBE_BYTES = 4 * MIB
"""The same where it ends as soon as somebody stalls for it."""
MOST_IN_VAIN = 3
"""Pieces in a row of which the kernel found less than half: there is nothing cold left."""


@dataclass(frozen=True, slots=True)
class Take:
    """Take so much, until then."""

    decision_id: str
    amount_bytes: int
    until_s: float
    """time.monotonic()."""
    directory: str = ""
    """Of a cgroup …"""
    inode: int = 0
    processes: tuple[Process, ...] = ()
    """… or of these, largest first."""
    spared: Mapping[int, str] | None = None
    stall_us: int = 0
    """It ends as soon as somebody in the cgroup has stalled for memory for so long since it began; 0: it does not."""


class Reclaimer(Worker):
    """Takes memory in pieces; one request after the other."""

    def __init__(self, build_gate: Callable[[], Gate], proc_fd: int, results: Results) -> None:
        """``build_gate`` gives a gate that is this thread's own."""
        super().__init__("reclaim")
        self.gate = build_gate()
        self._proc_fd = proc_fd
        self._results = results
        self._dropped: set[str] = set()
        self._taken = 0
        """Bytes, of the request in hand: what is taken is told also where it ends in a refusal."""

    def take(self, take: Take) -> None:
        """As soon as the thread comes to it."""
        self.submit(lambda: self._take(take))

    def let_go(self, decision_id: str) -> None:
        """It is wanted no longer: it ends with the piece in hand."""
        self._dropped.add(decision_id)
        self.submit(lambda: self._dropped.discard(decision_id))

    def drop_all(self) -> None:
        """Nothing more is wanted; for the end."""
        self._dropped.add("")

    def _take(self, take: Take) -> None:
        begin = time.monotonic()
        self._taken, status = 0, DONE
        try:
            why = self._from_cgroup(take) if take.directory else self._from_processes(take)
        except Refused as verdict:
            status, why = IMPOSSIBLE, str(verdict)
        except (OSError, ValueError) as error:
            status, why = IMPOSSIBLE, error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        took_us = int((time.monotonic() - begin) * 1e6)
        status = DONE if self._taken else status
        self._results.add(StepResult(take.decision_id, status, why, self._taken, took_us))

    def _why_end(self, take: Take) -> str:
        if {take.decision_id, ""} & self._dropped:
            return "it is wanted no longer"
        return "its time is over" if time.monotonic() >= take.until_s else ""

    def _from_cgroup(self, take: Take) -> str:
        """Why no more is taken; empty where all is. Raises Refused, OSError."""
        with CgroupDirectory(take.directory, take.inode) as cgroup:
            if not cgroup.has("memory.reclaim"):
                raise Refused("has no memory.reclaim (Linux 5.19, with the memory controller)")
            members = Members(self.gate, self._proc_fd, cgroup, take.spared)
            try:
                return self._pieces(take, cgroup, members)
            finally:
                members.close()

    def _pieces(self, take: Take, cgroup: CgroupDirectory, members: Members) -> str:
        in_vain = 0
        stalled_us = read_stall_us(cgroup) if take.stall_us else 0
        while self._taken < take.amount_bytes:
            why = self._why_end(take)
            if take.stall_us and read_stall_us(cgroup) - stalled_us > take.stall_us:
                why = "somebody there stalls for it"
            if why:
                return why
            members.prove()
            piece = min(PROBE_BYTES if take.stall_us else CHUNK_BYTES, take.amount_bytes - self._taken)
            got = reclaim_piece(cgroup, piece)
            self._taken += got
            in_vain = in_vain + 1 if got < piece // 2 else 0
            if in_vain >= MOST_IN_VAIN:
                return "there is nothing cold left"
        return ""

    def _from_processes(self, take: Take) -> str:
        """The same by process_madvise; what came of it is what swap holds more of them."""
        for process in take.processes:
            warrant = self.gate.grant(process)
            before = self._swapped(process.id.pid)
            try:
                why = self._page_out(take, warrant, take.amount_bytes - self._taken)
            finally:
                self._taken += max(0, self._swapped(process.id.pid) - before)
                os.close(warrant.pidfd)
            if why or self._taken >= take.amount_bytes:
                return why
        return "there is nothing left that can be swapped out"

    def _page_out(self, take: Take, warrant: Warrant, amount_bytes: int) -> str:
        pid = warrant.id.pid
        data = read_pid_file(self._proc_fd, pid, "maps")
        if not data or is_readable(warrant.pidfd):
            return ""  # it has gone, or was somebody else's
        start = self._swapped(pid)
        for piece in cut(parse_anonymous(data), CHUNK_BYTES):
            why = self._why_end(take)
            if why:
                return why
            for at in range(0, len(piece), MOST_RANGES):
                try:
                    process_madvise(warrant.pidfd, piece[at : at + MOST_RANGES], MADV_PAGEOUT)
                except OSError as error:
                    if error.errno == errno.ESRCH:
                        return ""
                    if error.errno != errno.ENOMEM:  # unmapped meanwhile: the next piece may be there
                        raise
            if self._swapped(pid) - start >= amount_bytes:
                break
        return ""

    def _swapped(self, pid: int) -> int:
        try:
            data = read_pid_file(self._proc_fd, pid, "status", denied=b"")
            return parse_status(data).swap_bytes if data else 0
        except (OSError, KernelFormatError):
            return 0


def reclaim_piece(cgroup: CgroupDirectory, size_bytes: int) -> int:
    """Have so much taken; how much it was. The kernel says only whether it was all (EAGAIN: not); the rest shows in
    what the cgroup uses. Raises OSError.
    """
    before = int(cgroup.read("memory.current"))
    try:
        cgroup.write("memory.reclaim", str(size_bytes))
    except OSError as error:
        if error.errno != errno.EAGAIN:
            raise
        return max(0, min(size_bytes, before - int(cgroup.read("memory.current"))))
    return size_bytes


def read_stall_us(cgroup: CgroupDirectory) -> int:
    """How long somebody there has stalled for memory. What we reclaim stalls us, in our own cgroup. Raises OSError,
    KernelFormatError.
    """
    return parse_pressure(cgroup.read("memory.pressure").encode()).some.total_us
