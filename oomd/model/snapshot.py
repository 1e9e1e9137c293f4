"""What the machine looked like at one instant."""

from __future__ import annotations

from oomd.model.values import dataclass

TYPE_CHECKING = False

PF_KTHREAD = 0x00200000
"""Flag of kernel threads in field 9 of proc_pid_stat(5); include/linux/sched.h. The same in every PID namespace, unlike
"child of pid 2".
"""

PF_EXITING = 0x00000004
"""Flag of a task that is on its way out; include/linux/sched.h."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process for ever: the pid alone may be handed out again, the pair may not within one boot.

    ``start_ticks`` is field 22 of proc_pid_stat(5), clock ticks since boot.
    """

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit that stands in the place of the machine's memory (``oomd exec --budget``, ``--scope cgroup:``).

    ``usage_bytes`` is anonymous memory, shared memory and swap; never file cache, which the kernel drops by itself.
    """

    limit_bytes: int
    usage_bytes: int
    source: str
    """``processes`` (summed, corrected for copy-on-write) or the path of the cgroup whose memory.stat was read."""


@dataclass(frozen=True, slots=True)
class PressureLine:
    """One line of a pressure file: averages as fractions of 1 (0.05 for ``5.00``), the total in microseconds since
    boot (or since the cgroup was made).
    """

    avg10: float
    avg60: float
    avg300: float
    total_us: int


@dataclass(frozen=True, slots=True)
class Pressure:
    """``some``: at least one task stalled; ``full``: every task that was not idle did. Kernels before 5.13 have no
    ``full`` for cpu.
    """

    some: PressureLine
    full: PressureLine | None


@dataclass(frozen=True, slots=True)
class Counters:
    """Events of /proc/vmstat since boot that some rules ask for, in pages or times; proc_vmstat(5)."""

    pgscan: int
    pgscan_direct: int
    allocstall: int
    """Direct reclaims: a task that wanted memory had to look for it itself."""
    pswpin: int
    pswpout: int
    refault_anon: int
    refault_file: int


@dataclass(frozen=True, slots=True)
class Watermarks:
    """How far the fullest-handed zone stands above its watermarks (/proc/zoneinfo), lowmem reserve included; bytes,
    negative where every zone is below.
    """

    min_bytes: int
    low_bytes: int
    high_bytes: int


@dataclass(frozen=True, slots=True)
class Zram:
    """All zram devices together (mm_stat), bytes."""

    original_bytes: int
    """What was swapped out to them."""
    compressed_bytes: int
    used_bytes: int
    """What they take of the memory."""
    same_bytes: int
    """Pages of one value, which take nothing."""
    huge_bytes: int
    """Pages that do not compress."""


@dataclass(frozen=True, slots=True)
class Details:
    """What the machine shows only when a configured rule asks for it; None for what nobody asked for or is absent."""

    counters: Counters | None = None
    watermarks: Watermarks | None = None
    zram: Zram | None = None
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None
    cpu_pressure: Pressure | None = None
    tasks: int | None = None
    """Processes and threads, the kernel's among them."""
    page_bytes: int = 4096


NO_DETAILS = Details()


@dataclass(frozen=True, slots=True)
class MemoryStatus:
    """meminfo, memory pressure and counters at one instant; read at every tick. Bytes and microseconds.

    Names follow proc_meminfo(5): ``mem_available_bytes`` is MemAvailable and so on.
    """

    time_us: int
    """CLOCK_MONOTONIC."""
    mem_total_bytes: int
    mem_free_bytes: int
    mem_available_bytes: int
    anon_bytes: int
    """AnonPages."""
    shmem_bytes: int
    slab_unreclaimable_bytes: int
    swap_total_bytes: int
    swap_free_bytes: int
    psi_some_us: int | None = None
    """``total=`` of the ``some`` line of /proc/pressure/memory: stall since boot, current at every read. None where PSI
    is off.
    """
    psi_full_us: int | None = None
    pcp_bytes: int = 0
    """Pages on per-CPU free lists, which neither MemFree nor MemAvailable counts (kernel ≥ 6.7 leaves an exiting
    process's pages
    there). Read only while a kill is under way."""
    arc_bytes: int = 0
    """What ZFS could give back: the size of its cache above its minimum."""
    budget: Budget | None = None
    file_bytes: int = 0
    """Active(file) + Inactive(file): page cache on the kernel's lists."""
    commit_limit_bytes: int = 0
    committed_bytes: int = 0
    """Committed_AS: what was promised to processes, used or not."""
    details: Details = NO_DETAILS

    @property
    def available_bytes(self) -> int:
        """What can still be used: of the budget where there is one, else MemAvailable and what ZFS would give back."""
        if self.budget is not None:
            return self.budget.limit_bytes - self.budget.usage_bytes
        return self.mem_available_bytes + self.arc_bytes

    @property
    def base_bytes(self) -> int:
        """What shares are taken of: the budget, or MemAvailable + AnonPages (memory pinned by tmpfs cannot be won by
        killing).
        """
        if self.budget is not None:
            return self.budget.limit_bytes
        return self.mem_available_bytes + self.arc_bytes + self.anon_bytes

    @property
    def has_swap(self) -> bool:
        """Whether swap delays the end; a budget counts swap as usage, so there it never does."""
        return self.budget is None and self.swap_total_bytes > 0


@dataclass(slots=True)
class Brief:
    """The part of a :class:`MemoryStatus` that levels are compared with, where there is no time for the whole of it."""

    time_us: int
    mem_total_bytes: int
    available_bytes: int
    base_bytes: int
    shmem_bytes: int
    swap_total_bytes: int
    swap_free_bytes: int
    budget: Budget | None = None

    @property
    def has_swap(self) -> bool:
        """As that has it."""
        return self.swap_total_bytes > 0


if TYPE_CHECKING:
    Levels = MemoryStatus | Brief
    """Where memory stands."""

HORIZONS_US = (2_000_000, 8_000_000, 32_000_000, 128_000_000)
"""How far back the growth of processes is told: the fast leak shows in the first, the slow one in the last."""


@dataclass(frozen=True, slots=True)
class Process:
    """One thread group as the kernel shows it. Names are text with undecodable bytes as ``\\xNN``."""

    id: ProcessId
    ppid: int
    comm: str
    state: str
    """One letter of proc_pid_stat(5): R, S, D, Z, T …"""
    flags: int
    """PF_* of include/linux/sched.h."""
    num_threads: int
    uid: int
    """Effective user id."""
    oom_score_adj: int
    rss_anon_bytes: int
    """RssAnon of proc_pid_status(5)."""
    rss_shmem_bytes: int
    swap_bytes: int
    """VmSwap."""
    nice: int = 0
    policy: int = 0
    """Scheduling policy as in sched(7): 0 OTHER, 1 FIFO, 2 RR, 3 BATCH, 5 IDLE."""
    kill_pending: bool = False
    """SIGKILL is pending for it: somebody has killed it already."""
    cgroup: str = ""
    """Path of its cgroup v2, or of its v1 memory cgroup where the host is hybrid; empty when not read."""
    out_of_scope: str = ""
    """Why it lies outside the scope of this oomd; empty when it lies inside."""
    private_bytes: int | None = None
    """What smaps_rollup said only this process holds of its anonymous memory and swap, carried forward by what it grew
    since.
    """
    own_shmem_bytes: int = 0
    """What nobody else holds of the shared memory that it maps, and no file system: it goes with the process. Known
    with ``private_bytes``.
    """
    private_age_us: int = 0
    """How long ago smaps_rollup was read, in whole seconds; only with ``private_bytes``."""
    untouched_bytes: int | None = None
    """Anonymous memory in use that it did not touch lately, at least; None when not read."""
    untouched_over_us: int = 0
    """Over how long it was watched since the kernel was made to forget what was touched (clear_refs); 0: not at all, it
    is since the kernel itself looked last, which nobody knows.
    """
    cmdline: str | None = None
    """Its command line, spaces between the words; None when not read."""
    exe: str | None = None
    """The path of its executable; None when not read."""
    marks: tuple[tuple[str, str], ...] = ()
    """The marks of its cgroup (``user.oomd_avoid`` …), by name, with their text."""
    cgroup_uid: int | None = None
    """The owner of its cgroup's directory; None when not read."""
    rss_file_bytes: int = 0
    page_tables_bytes: int = 0
    pgrp: int = 0
    session: int = 0
    grown: tuple[int, ...] = ()
    """By how many bytes its size rose over each of :data:`HORIZONS_US` (over what is known, where that is less; below
    zero where it fell); empty where it was not looked at before.
    """

    @property
    def size_bytes(self) -> int:
        """Anonymous memory and swap, shared by copy-on-write or not; and shared memory that is its own."""
        return self.rss_anon_bytes + self.swap_bytes + self.own_shmem_bytes

    @property
    def is_kernel_thread(self) -> bool:
        """Kernel threads own no memory and take no signals."""
        return bool(self.flags & PF_KTHREAD)

    @property
    def is_dying(self) -> bool:
        """On its way out already: exiting, or SIGKILL pending. A leader that has exited while its threads live on is
        not.
        """
        exiting = bool(self.flags & PF_EXITING) and not (self.state == "Z" and self.num_threads > 1)
        return exiting or self.kill_pending or self.state == "X"

    @property
    def is_dead(self) -> bool:
        """A zombie none of whose threads live; a leader that is dead while its threads live is not dead."""
        return self.state == "Z" and self.num_threads <= 1


@dataclass(frozen=True, slots=True)
class DeviceIo:
    """One device's line of io.stat: bytes and operations since the cgroup was made."""

    device: str
    """``MAJ:MIN``."""
    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0
    discarded_bytes: int = 0
    discards: int = 0


@dataclass(frozen=True, slots=True)
class Cgroup:
    """One cgroup of version 2 as its files show it (Documentation/admin-guide/cgroup-v2.rst); bytes, events, and
    microseconds of stall, all with what lies below counted in. None: not readable, or not there (the root has few
    files).
    """

    path: str
    """From the root of the hierarchy: ``/`` or ``/user.slice/…``; undecodable bytes as ``\\xNN``."""
    inode: int = 0
    """Of its directory: a cgroup made anew under the same path is another one."""
    time_us: int = 0
    """When it was read (CLOCK_MONOTONIC)."""
    owner_uid: int = 0
    """Of its directory: whoever it was delegated to."""
    populated: bool = True
    """Whether a live process is in it or below."""
    oom_group: bool = False
    """memory.oom.group: it is one whole, killed together or not at all."""
    xattrs: tuple[tuple[str, str], ...] = ()
    """The marks of oomd and systemd-oomd that it bears (``user.oomd_avoid`` …), by name, with their text."""
    current_bytes: int | None = None
    swap_bytes: int | None = None
    min_bytes: int = 0
    low_bytes: int = 0
    high_bytes: int | None = None
    """None: no limit."""
    max_bytes: int | None = None
    """None: no limit."""
    swap_max_bytes: int | None = None
    """None: no limit."""
    anon_bytes: int | None = None
    file_bytes: int | None = None
    shmem_bytes: int | None = None
    active_anon_bytes: int | None = None
    inactive_anon_bytes: int | None = None
    active_file_bytes: int | None = None
    inactive_file_bytes: int | None = None
    pgscan: int | None = None
    """Pages scanned for reclaim."""
    refault_anon: int | None = None
    """Pages that were taken and wanted back soon after."""
    refault_file: int | None = None
    memory_pressure: Pressure | None = None
    io_pressure: Pressure | None = None
    cpu_pressure: Pressure | None = None
    dying_descendants: int | None = None
    """Cgroups below that were removed and still hold memory."""
    pids: int | None = None
    """pids.current: tasks in it and below."""
    io: tuple[DeviceIo, ...] | None = None

    @property
    def parent(self) -> str:
        """The path of its parent; empty for the root."""
        return "" if self.path == "/" else self.path.rpartition("/")[0] or "/"

    def holds(self, path: str) -> bool:
        """Whether this path is the cgroup itself or lies below it."""
        return path == self.path or path.startswith(self.path.rstrip("/") + "/")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a decision looks at: the status and the processes worth looking at."""

    status: MemoryStatus
    processes: tuple[Process, ...]
    own_pids: frozenset[int] = frozenset()
    """oomd's own processes and their ancestors."""
    tree_roots: frozenset[int] = frozenset()
    """Roots of tree scopes: taken last."""
    own_uid: int = 0
    """oomd's own effective user."""
    complete: bool = True
    """False when only the leaders were re-read under the growth bound, which proves that nobody else could be chosen.
    """
    cgroups: tuple[Cgroup, ...] = ()
    """The cgroups that the rules ask for, by path; empty where none does."""
    earlier: tuple[Cgroup, ...] = ()
    """The same as they were some seconds ago, where they were looked at then: what rates are told from."""
