"""One row of the process table: what was read of a process, and the descriptors kept open for it."""

from __future__ import annotations

import os
from _operator import attrgetter

from oomd.kernel.process import (
    decode_name,
    frame_of,
    parse_cgroup,
    parse_memory,
    parse_stat,
    parse_statm,
    parse_status,
    read_pid_file,
    read_thread_status,
)
from oomd.model.snapshot import PF_KTHREAD, Process, ProcessId
from oomd.monitor.past import Past
from oomd.monitor.touches import Touches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.kernel.process import Stat, Status
    from oomd.kernel.smaps import Rollup
    from oomd.monitor.bound import Rise

UNREADABLE = (OSError, ValueError)
"""What reading a process may raise at any moment: gone (ENOENT, ESRCH), hidden (hidepid: EPERM, EACCES), broken (EIO),
half written (KernelFormatError). None of it may spoil a search: that process is skipped.
"""

PRIVATE_MAX_AGE_US = 30_000_000
"""A measurement of private memory older than this says nothing about now."""
AGE_FINE_US = 1_000_000
STATM_BYTES = 128
"""More than seven numbers of pages are."""

_FROM_STAT = (
    *("_name", "comm", "ppid", "state", "flags", "threads"),
    *("nice", "policy", "pgrp", "session", "rss_bytes"),
)
_MADE_OF = attrgetter(
    *("ppid", "comm", "state", "flags", "threads", "uid", "oom_score_adj", "anon_bytes", "shmem_bytes", "swap_bytes"),
    *("nice", "policy", "kill_pending", "cgroup", "out_of_scope", "own_shmem_share", "cmdline", "exe", "marks"),
    *("cgroup_uid", "file_bytes", "page_tables_bytes", "pgrp", "session", "measured_us", "measured_private_bytes"),
    "measured_size_bytes",
)
"""All that a value is made of, besides time and touches."""


class Row:
    """A process as the table knows it; mutable, one per process."""

    __slots__ = (
        *("_frame", "_made_of", "_name", "statm", "_value", "anon_bytes", "cgroup", "cgroup_uid", "cmdline"),
        *("comm", "detailed", "exact", "exe", "file_bytes", "flags", "history", "kill_pending", "marks"),
        *("measured_private_bytes", "measured_size_bytes", "measured_us", "nice", "oom_score_adj", "out_of_scope"),
        *("own_shmem_share", "page_tables_bytes", "pgrp", "pid", "policy", "ppid", "read_as", "rise", "rss_bytes"),
        *("session", "shared_guess_bytes", "shmem_bytes", "start_ticks", "stat_fd", "state", "statm_fd"),
        *("status_fd", "swap_bytes", "threads", "touches", "uid"),
    )

    def __init__(self, stat: Stat, page_bytes: int) -> None:
        self.pid = stat.pid
        self.start_ticks = stat.start_ticks
        self._name = stat.comm
        self._frame = self.statm = b""
        """What the kept status said besides memory, and the kept statm; empty where its size is not as that said."""
        self.comm = decode_name(stat.comm)
        self.uid = -1
        self.anon_bytes = 0
        self.shmem_bytes = 0
        self.swap_bytes = 0
        self.file_bytes = 0
        self.page_tables_bytes = 0
        self.history = Past()
        """Of leaders only."""
        self._value: Process | None = None
        self._made_of: tuple[object, ...] = ()
        self.kill_pending = False
        self.exact = False
        """Whether status was read; until then ``rss_bytes`` is the upper bound of its anonymous memory."""
        self.rise: Rise | None = None
        """What it is known to have gained since the last scan; None where that explains nothing."""
        self.oom_score_adj = 0
        self.cgroup = ""
        self.out_of_scope = ""
        self.cmdline: str | None = None
        self.exe: str | None = None
        self.read_as: str | None = None
        """Under which name those two were read; None when they were not."""
        self.marks: tuple[tuple[str, str], ...] = ()
        self.cgroup_uid: int | None = None
        self.detailed = False
        """Whether oom_score_adj and the cgroup were read."""
        self.stat_fd = -1
        self.statm_fd = -1
        self.status_fd = -1
        self.measured_us: int | None = None
        self.measured_size_bytes = 0
        self.measured_private_bytes = 0
        self.own_shmem_share = 0.0
        """Of the shared memory that it maps, how much is its own."""
        self.shared_guess_bytes = 0
        """What a fork made it share, until smaps_rollup tells."""
        self.touches = Touches()
        self.update_stat(stat, page_bytes)

    @property
    def id(self) -> ProcessId:
        return ProcessId(self.pid, self.start_ticks)

    @property
    def size_bytes(self) -> int:
        """Anonymous memory and swap; an upper bound while only stat was read."""
        return self.anon_bytes + self.swap_bytes if self.exact else self.rss_bytes

    @property
    def is_kernel_thread(self) -> bool:
        return bool(self.flags & PF_KTHREAD)

    @property
    def has_dead_leader(self) -> bool:
        """Its main thread has exited and others live: statm and status of the process show nothing."""
        return self.state == "Z" and self.threads > 1

    @property
    def what_it_is(self) -> tuple[str, int, bool, bool]:
        """What status tells besides sizes, as far as choices hang on it."""
        return (self.comm, self.uid, self.state in "ZX", self.kill_pending)

    @property
    def is_kept(self) -> bool:
        return self.status_fd >= 0

    def update_stat(self, stat: Stat, page_bytes: int) -> None:
        """Take what stat says now (the row's identity does not change)."""
        self._frame = b""
        if stat.comm != self._name:
            self._name = stat.comm
            self.comm = decode_name(stat.comm)
        self.ppid = stat.ppid
        self.state = stat.state
        self.flags = stat.flags
        self.threads = stat.num_threads
        self.nice = stat.nice
        self.policy = stat.policy
        self.pgrp = stat.pgrp
        self.session = stat.session
        self.rss_bytes = stat.rss_pages * page_bytes

    def update_from(self, fresh: Row) -> None:
        """Take over what another reading of stat made of the same process; its size is to be read again."""
        for name in _FROM_STAT:
            setattr(self, name, getattr(fresh, name))
        self._frame = b""
        self.exact = False

    def update_status(self, status: Status) -> None:
        """Take what status says now."""
        self._frame = self.statm = b""
        self.uid = status.uid
        self.anon_bytes = status.rss_anon_bytes
        self.shmem_bytes = status.rss_shmem_bytes
        self.swap_bytes = status.swap_bytes
        self.file_bytes = status.rss_file_bytes
        self.page_tables_bytes = status.page_tables_bytes
        self.kill_pending = status.kill_pending
        self.exact = True
        if status.name != self._name and not self.has_dead_leader:  # else it is a thread's name
            self._name = status.name
            self.comm = decode_name(status.name)

    def read_status(self, proc_fd: int) -> bool:
        """Read status (through the live threads where the leader is dead). False when the process is gone."""
        try:
            if self.has_dead_leader:
                status = read_thread_status(proc_fd, self.pid)
            else:
                data = read_pid_file(proc_fd, self.pid, "status")
                status = parse_status(data) if data else None
        except UNREADABLE:
            return False
        if status is None or status.tgid != self.pid:  # threads have folders too, which listings do not show
            return False
        self.update_status(status)
        return True

    def reread(self, proc_fd: int) -> bool:
        """Read status again, through the kept descriptor, opening nothing. False when the process is gone.

        A leader that died while its threads live shows no memory; only then its threads are opened.
        """
        if not self.is_kept:
            return self.read_status(proc_fd)
        try:
            data = os.pread(self.status_fd, 4096, 0)
            if not data:
                return False
            frame = frame_of(data)
            if frame and frame == self._frame:
                memory = parse_memory(data)
                self.anon_bytes, self.file_bytes, self.shmem_bytes, self.swap_bytes, self.page_tables_bytes = memory
                self.statm = b""
                return True
            status = parse_status(data)
        except UNREADABLE:
            return False
        self.state, self.threads, self.ppid = status.state, status.num_threads, status.ppid
        if self.has_dead_leader:
            return self.read_status(proc_fd)
        self.update_status(status)
        self._frame = frame
        return True

    def reread_size(self, proc_fd: int, page_bytes: int) -> bool:
        """Only how much it owns, in a fifth of the time: statm, which shows no swap. False when the process is gone."""
        if self.statm_fd < 0 or self.swap_bytes or self.own_shmem_share:
            return self.reread(proc_fd)
        try:
            data = os.pread(self.statm_fd, STATM_BYTES, 0)
            resident, shared = parse_statm(data)
        except UNREADABLE:
            return False
        if not resident:
            return self.reread(proc_fd)  # dying, or its main thread is dead
        self.anon_bytes = max(0, resident - shared) * page_bytes
        self.statm = data
        return True

    def note_statm(self, page_bytes: int) -> None:
        """After status was read: have statm to compare with later, if it says the same size."""
        if self.statm_fd < 0 or self.statm or self.swap_bytes or self.own_shmem_share:
            return
        try:
            data = os.pread(self.statm_fd, STATM_BYTES, 0)
            resident, shared = parse_statm(data)
        except UNREADABLE:
            return
        if resident and (resident - shared) * page_bytes == self.anon_bytes:
            self.statm = data

    def is_as_read(self) -> bool:
        """Whether statm surely says what it said when the size was taken from it: nothing is parsed. Never where some
        of it may lie in swap, which statm does not show.
        """
        try:
            return bool(self.statm) and os.pread(self.statm_fd, STATM_BYTES, 0) == self.statm
        except OSError:
            return False

    def read_details(self, proc_fd: int) -> None:
        """What only leaders need: oom_score_adj and the cgroup."""
        self.detailed = True
        try:
            data = read_pid_file(proc_fd, self.pid, "oom_score_adj")
            if data:
                self.oom_score_adj = int(data)
            data = read_pid_file(proc_fd, self.pid, "cgroup")
            if data:
                self.cgroup = decode_name(parse_cgroup(data).encode("utf-8", "surrogateescape"))
        except UNREADABLE:
            return  # what was known before stays

    def keep(self, proc_fd: int) -> None:
        """Open stat, status and statm for good: later reads open nothing and never meet another process of the same
        pid.
        """
        if self.is_kept:
            return
        try:
            self.stat_fd = os.open(f"{self.pid}/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
            self.statm_fd = os.open(f"{self.pid}/statm", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
            self.status_fd = os.open(f"{self.pid}/status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
            # Read after both were opened: if this is still our process, no other one stood there in between.
            if parse_stat(os.pread(self.stat_fd, 4096, 0)).start_ticks != self.start_ticks:
                self.drop()
        except UNREADABLE:
            self.drop()

    def drop(self) -> None:
        """Close what was kept: a victim's memory must not be held by its readers."""
        for fd in (self.stat_fd, self.status_fd, self.statm_fd):
            if fd >= 0:
                os.close(fd)
        self.stat_fd = self.status_fd = self.statm_fd = -1
        self.statm = b""

    def measured(self, rollup: Rollup, now_us: int, *, forgot: int | None = None, own_shmem_bytes: int = 0) -> None:
        """Take what smaps_rollup said; ``forgot`` is 0 where the kernel forgot just before it what was touched, else
        the errno, None where it was not asked to. ``own_shmem_bytes``: of shared memory what nobody else holds.
        """
        self.own_shmem_share = min(1.0, own_shmem_bytes / self.shmem_bytes) if self.shmem_bytes else 0.0
        self.touches.note(rollup, now_us, forgot)
        if self.own_shmem_share:
            self.statm = b""  # which does not show all that it owns
        self.measured_us = now_us
        self.measured_size_bytes = rollup.anonymous_bytes + rollup.swap_bytes
        self.measured_private_bytes = rollup.private_bytes
        self.shared_guess_bytes = 0

    def told(self, cmdline: str, exe: str) -> None:
        """Take the command line and the executable."""
        self.cmdline, self.exe, self.read_as = cmdline, exe, self.comm

    def private_estimate_bytes(self) -> int:
        """What only it holds: as measured and grown since, or its size without what a fork made it share."""
        if self.measured_us is None:
            return max(0, self.size_bytes - self.shared_guess_bytes)
        grown = self.anon_bytes + self.swap_bytes - self.measured_size_bytes
        return max(0, min(self.size_bytes, self.measured_private_bytes + grown))

    def note_size(self, now_us: int) -> None:
        """Remember its size, so that growth can be told later."""
        self.history.note(now_us, self.size_bytes, self.shmem_bytes)

    def grown(self, now_us: int) -> tuple[int, ...]:
        """By how much it grew over each horizon; nothing where it was looked at for the first time just now."""
        size, mapped, share = self.size_bytes, self.shmem_bytes, self.own_shmem_share
        if not share:
            return tuple([size - past for past, _ in self.history.then(now_us)])
        return tuple([size - past + int((mapped - shmem) * share) for past, shmem in self.history.then(now_us)])

    def value(self, now_us: int) -> Process:
        """The row as a plain value; the same one as long as it tells the same."""
        grown, touches = self.grown(now_us), self.touches
        age = 0 if self.measured_us is None else -((self.measured_us - now_us) // AGE_FINE_US)
        made_of = (age, grown, touches.untouched_bytes, touches.over_us, *_MADE_OF(self))
        if self._value is None or made_of != self._made_of:
            self._value, self._made_of = self._make_value(now_us, grown), made_of
        return self._value

    def _make_value(self, now_us: int, grown: tuple[int, ...]) -> Process:
        private, untouched, age, own_shmem = None, None, 0, 0
        if self.measured_us is not None and now_us - self.measured_us <= PRIVATE_MAX_AGE_US:
            age = max(0, -((self.measured_us - now_us) // AGE_FINE_US)) * AGE_FINE_US
            private = self.private_estimate_bytes()
            own_shmem = int(self.shmem_bytes * self.own_shmem_share)
            untouched = self.touches.untouched_bytes
        return Process(
            id=self.id,
            ppid=self.ppid,
            comm=self.comm,
            state=self.state,
            flags=self.flags,
            num_threads=self.threads,
            uid=self.uid,
            oom_score_adj=self.oom_score_adj,
            rss_anon_bytes=self.anon_bytes,
            rss_shmem_bytes=self.shmem_bytes,
            swap_bytes=self.swap_bytes,
            nice=self.nice,
            policy=self.policy,
            kill_pending=self.kill_pending,
            cgroup=self.cgroup,
            out_of_scope=self.out_of_scope,
            private_bytes=private,
            own_shmem_bytes=own_shmem,
            private_age_us=age,
            untouched_bytes=None if untouched is None else min(untouched, self.anon_bytes),
            untouched_over_us=0 if untouched is None else self.touches.over_us,
            cmdline=self.cmdline,
            exe=self.exe,
            marks=self.marks,
            cgroup_uid=self.cgroup_uid,
            rss_file_bytes=self.file_bytes,
            page_tables_bytes=self.page_tables_bytes,
            pgrp=self.pgrp,
            session=self.session,
            grown=grown,
        )


def read_row(proc_fd: int, pid: int, page_bytes: int) -> Row | None:
    """A new row with stat read; None when there is no such process."""
    try:
        data = read_pid_file(proc_fd, pid, "stat")
        return Row(parse_stat(data), page_bytes) if data else None
    except UNREADABLE:
        return None
