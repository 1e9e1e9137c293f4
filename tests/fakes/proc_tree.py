"""A procfs of plain files, built by verbs, in the kernel's exact formats: the real readers can be pointed at
it.

Files are rewritten in place, so that descriptors that a reader keeps open see the change, as in the real
one. Two things differ: files of a removed process read as empty where the kernel says ESRCH, and nothing
counts by itself.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MIB = 1024 * 1024
GIB = 1024 * MIB

PF_KTHREAD = 0x00200000


@dataclass(frozen=True)
class FakeProcess:
    """One process; sizes in bytes."""

    pid: int
    comm: str | bytes = "process"
    ppid: int = 1
    rss_anon: int = MIB
    swap: int = 0
    uid: int = 0
    """Effective; the real one is the same."""
    oom_score_adj: int = 0
    state: str = "S"
    flags: int = 0x00400000
    threads: int = 1
    start_ticks: int = 0
    cgroup: str = "/x"
    nice: int = 0
    policy: int = 0
    pgrp: int = 0
    """Of its process group; 0: its own. Likewise ``session``."""
    session: int = 0
    private: int | None = None
    """What of anonymous memory and swap nobody shares; the rest is shared with one other. None: all of it.
    """
    referenced: int | None = None
    """What of its pages counts as touched. None: all anonymous ones."""
    cmdline: tuple[str, ...] = ()
    rss_file: int = MIB
    rss_shmem: int = 0
    maps: tuple[tuple[str, int, int], ...] = ()
    """Shared mappings: path (with `` (deleted)`` where it is), inode, bytes."""
    kill_pending: bool = False
    tty: int = 0
    """Device number of its terminal."""
    tpgid: int = -1
    """The process group in the foreground there."""
    faults: int = 0
    """Minor ones."""
    reaped_faults: int = 0
    """Those of children that it has waited for."""

    @property
    def name(self) -> bytes:
        """``comm`` as bytes, cut as the kernel cuts it."""
        raw = self.comm.encode() if isinstance(self.comm, str) else self.comm
        return raw[:15]

    @property
    def owns_memory(self) -> bool:
        """Whether the files of the process itself show memory."""
        return self.state not in "ZX" and not self.flags & PF_KTHREAD


class ProcTree:
    """The tree at ``root``: a quiet machine of 8 GiB without swap and without processes, until a verb says
    otherwise.
    """

    def __init__(self, root: Path) -> None:
        """Makes ``root`` and fills it."""
        self.root = root
        self._processes: dict[int, FakeProcess] = {}
        self._last_pid = 0
        self._meminfo = {"total": 8 * GIB, "available": 6 * GIB, "anon": GIB}
        self._meminfo |= {"swap_total": 0, "swap_free": 0, "shmem": 0, "slab_unreclaimable": 0, "free": -1}
        self._vmstat: dict[str, int] = {}
        (root / "pressure").mkdir(parents=True, exist_ok=True)
        self.set_meminfo()
        self.set_pressure(0, 0)
        self.set_vmstat()
        self.set_loadavg(0)
        self.set_pcp(0)
        self._write("self/mountinfo", b"")

    def set_meminfo(self, **sizes: int) -> None:
        """Sets ``total``, ``available``, ``anon``, ``swap_total``, ``swap_free``, ``shmem``, ``free``,
        ``slab_unreclaimable`` (bytes); what is not given stays.

        ``free`` is half of ``available`` as long as it was never set; file cache is the other half.
        """
        unknown = sizes.keys() - self._meminfo.keys()
        assert not unknown, unknown
        values = self._meminfo = self._meminfo | sizes
        free = values["available"] // 2 if values["free"] < 0 else values["free"]
        file = max(0, values["available"] - free)
        fields = {
            "MemTotal": values["total"],
            "MemFree": free,
            "MemAvailable": values["available"],
            "Buffers": 0,
            "Cached": file + values["shmem"],
            "SwapCached": 0,
            "Active(file)": file // 2,
            "Inactive(file)": file // 2,
            "SwapTotal": values["swap_total"],
            "SwapFree": values["swap_free"],
            "AnonPages": values["anon"],
            "Mapped": 0,
            "Shmem": values["shmem"],
            "SUnreclaim": values["slab_unreclaimable"],
            "KernelStack": 0,
            "PageTables": 0,
            "CommitLimit": values["total"] // 2 + values["swap_total"],
            "Committed_AS": values["anon"],
        }
        lines = "".join(f"{name + ':':<15}{size // 1024:>9} kB\n" for name, size in fields.items())
        self._write("meminfo", lines.encode())
        total_kib, free_kib = values["swap_total"] // 1024, values["swap_free"] // 1024
        area = f"{'/dev/vda2':<40}partition\t{total_kib}\t\t{total_kib - free_kib}\t\t-2\n" if total_kib else ""
        self._write("swaps", f"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n{area}".encode())

    def set_pressure(self, some_us: int, full_us: int) -> None:
        """Stall since boot, microseconds; the averages stay at zero, as nothing may decide by them."""
        average = "avg10=0.00 avg60=0.00 avg300=0.00"
        self._write("pressure/memory", f"some {average} total={some_us}\nfull {average} total={full_us}\n".encode())

    def without_pressure(self) -> None:
        """As a kernel without PSI: no such file."""
        shutil.rmtree(self.root / "pressure")

    def set_vmstat(self, **counters: int) -> None:
        """Sets counters under the kernel's names (``pgalloc_normal``, ``pgfault``, …); the others stay."""
        self._vmstat |= counters
        names = ["nr_free_pages", "workingset_refault_anon", "workingset_refault_file", "pswpin", "pswpout"]
        names += ["pgalloc_normal", "allocstall_normal", "pgfault", "pgmajfault", "pgsteal_kswapd"]
        names += ["pgsteal_direct", "pgscan_kswapd", "pgscan_direct", "oom_kill", "thp_fault_alloc"]
        names += ["thp_collapse_alloc"]
        values = dict.fromkeys(names, 0) | self._vmstat
        self._write("vmstat", "".join(f"{name} {value}\n" for name, value in values.items()).encode())

    def set_loadavg(self, last_pid: int) -> None:
        """The pid that was handed out last."""
        self._last_pid = last_pid
        self._write("loadavg", f"0.00 0.00 0.00 1/{len(self._processes) + 1} {last_pid}\n".encode())

    def set_pcp(self, pages: int) -> None:
        """Pages on per-CPU free lists, in one zone and on one CPU."""
        lines = ["Node 0, zone   Normal", "  pages free     1000", "        boost    0", "        min      100"]
        lines += ["        low      125", "        high     150", "        spanned  100000", "        managed  90000"]
        lines += ["  pagesets", "    cpu: 0", f"              count:    {pages}", "              high:     5000"]
        self._write("zoneinfo", "".join(f"{line}\n" for line in lines).encode())

    def add_process(self, pid: int, **values: Any) -> FakeProcess:
        """A process with the values of :class:`FakeProcess`; ``start_ticks`` is 100 + pid unless given. It
        moves the last pid up.
        """
        values.setdefault("start_ticks", 100 + pid)
        process = FakeProcess(pid, **values)
        self._processes[pid] = process
        self._write_process(process)
        self._write_children(process.ppid)
        self.set_loadavg(max(self._last_pid, pid))
        return process

    def change_process(self, pid: int, **values: Any) -> FakeProcess:
        """The same process, other values. Another ``start_ticks`` makes it another one with the same pid."""
        parent = self._processes[pid].ppid
        process = self._processes[pid] = replace(self._processes[pid], **values)
        self._write_process(process)
        if parent != process.ppid:
            self._write_children(parent)
            self._write_children(process.ppid)
        return process

    def remove_process(self, pid: int) -> None:
        """It is reaped: its directory goes, and descriptors that were kept read as empty."""
        self._write_children(self._processes.pop(pid).ppid)
        directory = self.root / str(pid)
        for path in directory.rglob("*"):
            if path.is_file():
                os.truncate(path, 0)
        shutil.rmtree(directory)

    def _write(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(fd, data, 0)
            os.ftruncate(fd, len(data))
        finally:
            os.close(fd)

    def _write_children(self, pid: int) -> None:
        if pid in self._processes:
            children = sorted(each.pid for each in self._processes.values() if each.ppid == pid)
            self._write(f"{pid}/task/{pid}/children", "".join(f"{each} " for each in children).encode())

    def _write_process(self, process: FakeProcess) -> None:
        pid = process.pid
        self._write(f"{pid}/stat", _stat(process, pid))
        self._write(f"{pid}/statm", _statm(process))
        self._write(f"{pid}/status", _status(process, pid, with_memory=process.owns_memory))
        self._write(f"{pid}/comm", process.name + b"\n")
        self._write(f"{pid}/cmdline", "".join(f"{word}\0" for word in process.cmdline).encode())
        self._write(f"{pid}/oom_score_adj", b"%d\n" % process.oom_score_adj)
        self._write(f"{pid}/cgroup", f"0::{process.cgroup}\n".encode())
        self._write(f"{pid}/maps", _maps(process))
        rollup = self.root / str(pid) / "smaps_rollup"
        if process.owns_memory:
            self._write(f"{pid}/smaps_rollup", _smaps_rollup(process))
        else:
            rollup.unlink(missing_ok=True)
        shutil.rmtree(self.root / str(pid) / "task", ignore_errors=True)
        self._write_children(pid)
        self._write(f"{pid}/task/{pid}/stat", _stat(process, pid))
        self._write(f"{pid}/task/{pid}/status", _status(process, pid, with_memory=process.owns_memory))
        # A leader that has ended shows no memory; the threads that go on do. With tids beyond every pid
        # there are no clashes.
        live = replace(process, state="S") if process.state == "Z" else process
        for number in range(1, process.threads):
            tid = 4_000_000 + pid * 1000 + number
            self._write(f"{pid}/task/{tid}/stat", _stat(live, tid))
            self._write(f"{pid}/task/{tid}/status", _status(live, tid, with_memory=live.owns_memory))


def _stat(process: FakeProcess, tid: int) -> bytes:
    """The 52 fields of proc_pid_stat(5)."""
    resident = process.rss_anon + process.rss_file + process.rss_shmem if process.owns_memory else 0
    fields = [0] * 49
    fields[0] = process.ppid
    fields[1] = process.pgrp or process.pid
    fields[2] = process.session or process.pid
    fields[3], fields[4] = process.tty, process.tpgid
    # A thread that has ended keeps PF_EXITING and PF_POSTCOREDUMP, also a leader whose threads go on.
    fields[5] = process.flags | (0xC if process.state in "ZX" else 0)
    fields[6], fields[7] = process.faults, process.reaped_faults
    fields[14] = 20 + process.nice
    fields[15] = process.nice
    fields[16] = process.threads
    fields[18] = process.start_ticks
    fields[19] = 2 * resident
    fields[20] = resident // PAGE_BYTES
    fields[21] = (1 << 64) - 1
    fields[37] = process.policy
    rest = " ".join(str(field) for field in fields)
    return b"%d (%b) %b %b\n" % (tid, process.name, process.state.encode(), rest.encode())


def _statm(process: FakeProcess) -> bytes:
    if not process.owns_memory:
        return b"0 0 0 0 0 0 0\n"
    shared = (process.rss_file + process.rss_shmem) // PAGE_BYTES
    resident = shared + process.rss_anon // PAGE_BYTES
    return b"%d %d %d 1 0 %d 0\n" % (2 * resident, resident, shared, resident)


_STATE_NAMES = {"R": "running", "S": "sleeping", "D": "disk sleep", "T": "stopped", "t": "tracing stop"}
_STATE_NAMES |= {"Z": "zombie", "X": "dead", "I": "idle", "P": "parked"}


def _status(process: FakeProcess, tid: int, *, with_memory: bool) -> bytes:
    name = process.name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    lines = ["Umask:\t0022", f"State:\t{process.state} ({_STATE_NAMES[process.state]})", f"Tgid:\t{process.pid}"]
    lines += ["Ngid:\t0", f"Pid:\t{tid}", f"PPid:\t{process.ppid}", "TracerPid:\t0"]
    lines += [f"Uid:\t{process.uid}\t{process.uid}\t{process.uid}\t{process.uid}", "Gid:\t0\t0\t0\t0", "FDSize:\t64"]
    lines += ["Groups:\t ", f"Kthread:\t{int(bool(process.flags & PF_KTHREAD))}"]
    if with_memory:
        resident = process.rss_anon + process.rss_file + process.rss_shmem
        sizes = {"VmPeak": 2 * resident, "VmSize": 2 * resident, "VmLck": 0, "VmHWM": resident, "VmRSS": resident}
        sizes |= {"RssAnon": process.rss_anon, "RssFile": process.rss_file, "RssShmem": process.rss_shmem}
        sizes |= {"VmData": resident, "VmPTE": 0, "VmSwap": process.swap}
        lines += [f"{key}:\t{size // 1024:>8} kB" for key, size in sizes.items()]
    pending = 0x100 if process.kill_pending else 0
    lines += [f"Threads:\t{process.threads}", "SigQ:\t0/96365", "SigPnd:\t0000000000000000", f"ShdPnd:\t{pending:016x}"]
    lines += ["SigBlk:\t0000000000000000", "CapEff:\t0000000000000000", "nonvoluntary_ctxt_switches:\t0"]
    return b"Name:\t" + name + b"\n" + "".join(f"{line}\n" for line in lines).encode()


def _maps(process: FakeProcess) -> bytes:
    """A private mapping, and the shared ones that were asked for."""
    lines = ["55d0c0a00000-55d0c0a21000 rw-p 00000000 00:00 0                          [heap]"]
    begin = 0x7F0000000000
    for path, inode, size in process.maps:
        lines.append(f"{begin:x}-{begin + size:x} rw-s 00000000 00:01 {inode:<26} {path}")
        begin += size
    return "".join(f"{line}\n" for line in lines).encode()


def _smaps_rollup(process: FakeProcess) -> bytes:
    """Pages that are not private are shared with one other process, so half of them is its share."""
    anon, swap, file, shmem = (
        size // 1024 for size in (process.rss_anon, process.swap, process.rss_file, process.rss_shmem)
    )
    private = anon + swap if process.private is None else process.private // 1024
    referenced = anon if process.referenced is None else process.referenced // 1024
    private_anon = min(private, anon)
    private_swap = min(private - private_anon, swap)
    swap_pss = private_swap + (swap - private_swap) // 2
    pss_anon = private_anon + (anon - private_anon) // 2
    sizes = {"Rss": anon + file + shmem, "Pss": pss_anon + file + shmem, "Pss_Dirty": pss_anon, "Pss_Anon": pss_anon}
    sizes |= {"Pss_File": file, "Pss_Shmem": shmem, "Shared_Clean": file, "Shared_Dirty": anon - private_anon}
    sizes |= {"Private_Clean": 0, "Private_Dirty": private_anon, "Referenced": referenced, "Anonymous": anon, "KSM": 0}
    sizes |= {"LazyFree": 0, "AnonHugePages": 0, "Swap": swap, "SwapPss": swap_pss, "Locked": 0}
    heading = "55d0c0a00000-7ffd5a3f9000 ---p 00000000 00:00 0                          [rollup]\n"
    return (heading + "".join(f"{name + ':':<16}{size:>8} kB\n" for name, size in sizes.items())).encode()
