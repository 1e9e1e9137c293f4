"""What keeps a killed process from running to its end is lifted by a thread of its own, while the reaper strips it.

Reaping and lifting are levers of similar size (a starved 4 GiB victim: over 4 s without either, 0.34 s reaped, 0.29 s
promoted, 0.17 s with both), and only lifting brings back what process_mrelease leaves: page tables, shared memory,
descriptors.

What moves a whole cgroup is pulled only when every process in it is under warrant. For a victim among strangers there
are levers that move it alone: in version 1 it leaves the cgroup that hinders for the one above; in version 2, where a
process that leaves takes all its controllers with it, a real-time class escapes the CPU limit.
"""

from __future__ import annotations

import os
import time

from oomd.kernel.cgroup_levers import Lever, find_levers, parse_lever_mounts, read_members, read_value, write_value
from oomd.kernel.pidfd import find_readable, is_readable
from oomd.kernel.process import read_pid_file
from oomd.kernel.sched import NICEST, be_realtime
from oomd.kernel.syscalls import IOPRIO_CLASS_BE, ioprio_set_thread, sched_getcpu
from oomd.kernel.threads import Thread
from oomd.model.values import dataclass
from oomd.reap.bell import Bell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
else:
    from _collections import deque  # the C module alone

PRIORITY = 13
"""Above the reapers': on a machine with one CPU nobody else could end a reaper's real-time while it reaps. It sleeps
first, so that it does not come between a signal and its reap."""
BEGIN_S = 0.0003
"""After the signal: by then process_mrelease holds its memory map, and a victim that runs cannot let go of it first."""
AT_ONCE_S = 0.1
"""How long a signal is waited for without a pause."""
LOOK_AGAIN_S = 0.05
"""How often the end of victims is looked for, whose cgroup's values may have to be put back."""
FRESH_S = 5.0
PATIENT_S = 0.5
"""How long whom nothing is known to hinder waits for help at most…"""
MOMENT_S = 0.02
"""… and how long after all are reaped: what is left of them takes a fraction of a millisecond each."""
LOOK_SELDOM_S = 1.0
"""And how often when the last victim was signalled that long ago: it may be stuck for good."""
RUNS_ANYWAY = (os.SCHED_FIFO, os.SCHED_RR, 6)
"""Classes that no CPU limit holds; 6 is SCHED_DEADLINE, which Python has no name for."""
SLOW_CLASSES = {os.SCHED_IDLE: "SCHED_IDLE", os.SCHED_BATCH: "SCHED_BATCH"}
MOST_REMEMBERED = 1024
"""Victims whose lifted hindrances nobody has asked for."""
MOST_THREADS = 4096
"""Of one victim: so many take 50 ms; the rest ends with them."""
WAITING, GO, DROPPED = 0, 1, 2


@dataclass(slots=True)
class Lift:
    """A victim to be lifted. It is handed over before the signal, because nothing may come between signal and reap; its
    state, one assignment, says that the signal was sent, or that it failed.
    """

    pid: int
    pidfd: int
    """A copy of the warrant's, of our own."""
    born: float
    """time.monotonic()."""
    patient: bool = False
    """Nothing is known to hinder it: where its cgroups do not either, its threads are left alone until
    :meth:`Lifter.hurry`."""
    state: int = WAITING


def let_go(lift: Lift | None) -> None:
    """The victim was signalled."""
    if lift is not None:
        lift.state = GO


def drop(lift: Lift | None) -> None:
    """It was not."""
    if lift is not None:
        lift.state = DROPPED


@dataclass(frozen=True, slots=True)
class Pulled:
    """A lever that was pulled, until the victims are gone."""

    lever: Lever
    pidfds: tuple[int, ...]
    """Copies of our own, of every victim in that cgroup."""


class Lifter:
    """Lifts hindrances of victims, in the order of their signals; puts back what outlives them."""

    def __init__(self, proc_fd: int, mountinfo: bytes | None = None, *, alone: bool = False) -> None:
        """``mountinfo``: /proc/self/mountinfo, read now when left out: nothing is mounted while memory is short.
        ``alone``: nobody reaps, the victim itself frees its memory.
        """
        self._proc_fd = proc_fd
        self._begin_s = 0.0 if alone else BEGIN_S
        # Somebody else must have a CPU while the victim ends.
        self._realtime = alone and (os.cpu_count() or 1) > 1
        if mountinfo is None:
            with open("/proc/self/mountinfo", "rb") as file:
                mountinfo = file.read()
        self._mounts = parse_lever_mounts(mountinfo)
        self._work: deque[Lift] = deque()
        self._bell = Bell()
        self.is_busy = False
        """Whether its thread is at work, and would see late what is due."""
        self.wakes_us = 0
        """When :meth:`wake_after` has it wake up, or had (CLOCK_MONOTONIC)."""
        self._lifted: dict[int, tuple[str, ...]] = {}
        """By pid; taken by :meth:`take`."""
        self._doomed: dict[int, int] = {}
        """Victims under warrant whose last signal was sent: pid to our copy of the pidfd."""
        self._pulled: list[Pulled] = []
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._patient: list[Lift] = []
        self.thread = Thread(self._run, name="lifter")
        self._stopping = False
        self._worked = 0.0
        self._next_look = 0.0

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self) -> None:
        """Put back what was pulled, as soon as its victims are gone, and end."""
        self._stopping = True
        self._bell.ring()

    def prepare(self, pid: int, pidfd: int, *, patient: bool = False, ahead: bool = False) -> Lift:
        """What hinders this victim, which is under warrant, is lifted as soon as the state of what is returned is GO;
        with ``ahead`` not before :meth:`add` either, if it comes to that. Raises OSError when there is no descriptor
        left for the copy of its pidfd.
        """
        lift = Lift(pid, os.dup(pidfd), time.monotonic(), patient)
        if not ahead:
            self.add(lift)
        return lift

    def add(self, lift: Lift) -> None:
        """It is about to be signalled."""
        lift.born = time.monotonic()
        self._work.append(lift)

    def wake(self) -> None:
        """There is work. Not before the signal has been asked for: a thread that wakes up asks for the interpreter's
        lock, and would be before the one that sends it.
        """
        self._bell.ring()

    def wake_after(self, wait_us: int) -> None:
        """There may be then; a time that was set before does not count any more."""
        self.wakes_us = time.monotonic_ns() // 1000 + wait_us
        self._bell.ring_after(wait_us)

    def call_later(self, due: float, action: Callable[[], None]) -> None:
        """Do this at ``due`` (time.monotonic), in the lifter's thread and priority, which must be woken afterwards."""
        self._later.append((due, action))

    def hurry(self) -> None:
        """Whoever is still there a moment from now is helped."""
        self.call_later(time.monotonic() + MOMENT_S, self._promote_patient)
        self.wake()

    def take(self, pid: int) -> tuple[str, ...]:
        """What was lifted for this victim, in words; once."""
        return self._lifted.pop(pid, ())

    def _run(self) -> None:
        be_realtime(PRIORITY)
        while not self._stopping or self._pulled:
            self._bell.wait(self._patience_s())
            now = self._do_due()
            self.is_busy = bool(self._work or self._pulled)
            known: dict[bytes, list[Lever]] = {}  # what is read in one motion is read once for each cgroup
            taken = self._take_work()
            self._do_due()  # of a kill that came meanwhile: what is lifted for it may last
            for lift in taken:
                if len(self._lifted) >= MOST_REMEMBERED:
                    self._lifted.pop(next(iter(self._lifted)), None)
                try:
                    self._lifted[lift.pid] = self._lift(lift, known)
                except (OSError, ValueError) as error:  # nothing that a file says may end this thread
                    self._lifted[lift.pid] = (f"lifting failed: {error}",)
            self._look_for_ends(now)
            self.is_busy = False
        for fd in (*self._doomed.values(), *(lift.pidfd for lift in self._work)):
            os.close(fd)
        self._bell.close()

    def _do_due(self) -> float:
        """What was asked for by now, which is returned (time.monotonic)."""
        now = time.monotonic()
        for entry in [entry for entry in self._later if entry[0] <= now]:
            self._later.remove(entry)
            entry[1]()
        return now

    def _take_work(self) -> list[Lift]:
        """All whose signal was sent. Every one of them is under warrant before the first is lifted: they may share a
        cgroup.
        """
        taken = []
        if self._work:
            time.sleep(self._begin_s)
            self._worked = time.monotonic()
        for _ in range(len(self._work)):
            lift = self._work.popleft()
            if lift.state == WAITING:
                self._work.append(lift)
            elif lift.state == DROPPED:
                os.close(lift.pidfd)
            else:
                known = self._doomed.get(lift.pid)
                if known is not None:
                    os.close(known)
                self._doomed[lift.pid] = lift.pidfd
                self._next_look = min(self._next_look, self._worked + LOOK_AGAIN_S)
                taken.append(lift)
        return taken

    def _patience_s(self) -> float | None:
        if self._work:
            # The signal is a matter of microseconds, unless every worker hangs in the kernel.
            return 0.0 if time.monotonic() < self._work[0].born + AT_ONCE_S else LOOK_AGAIN_S
        due = [due for due, _ in self._later]
        if self._pulled or self._doomed:
            due.append(self._next_look)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _lift(self, lift: Lift, known: dict[bytes, list[Lever]]) -> tuple[str, ...]:
        if is_readable(lift.pidfd):
            return ()
        lifted, escape = [], False
        levers = self._find_levers(lift.pid, known)
        for lever in tuple(levers):
            word = self._pull(lever)
            if word:
                levers.remove(lever)  # for everybody in it
            elif lever.version == 1:
                word = _leave(lever, lift.pid)
            escape = escape or (not word and lever.kind == "cpu")
            if word:
                lifted.append(word)
        if lift.patient and not lifted and not escape:
            if not self._patient:
                self.call_later(time.monotonic() + PATIENT_S, self._promote_patient)
            self._patient.append(lift)
            return ()
        moved = self._promote(lift, escape=escape)
        if moved:
            lifted.append(moved)
        return tuple(lifted)

    def _promote_patient(self) -> None:
        waiting, self._patient = self._patient, []
        for lift in waiting:
            # Of the dead the descriptor was closed, and its number may mean another process by now.
            moved = self._promote(lift, escape=False) if self._doomed.get(lift.pid) == lift.pidfd else ""
            if moved:
                self._lifted[lift.pid] = (*self._lifted.get(lift.pid, ()), moved)

    def _find_levers(self, pid: int, known: dict[bytes, list[Lever]]) -> list[Lever]:
        data = read_pid_file(self._proc_fd, pid, "cgroup") or b""
        if data not in known:
            known[data] = list(find_levers(data, self._mounts))
        return known[data]

    def _pull(self, lever: Lever) -> str:
        """Lift a whole cgroup's hindrance, if nobody else is in it; what was lifted, or nothing."""
        try:
            pidfds = [self._doomed.get(pid, -1) for pid in read_members(lever.directory)]
            if not pidfds or any(fd < 0 or is_readable(fd) for fd in pidfds):
                return ""
            write_value(lever.path, lever.free)
        except OSError:
            return ""
        self._pulled.append(Pulled(lever, tuple(os.dup(fd) for fd in pidfds)))
        return f"{lever.file} {lever.found}"

    def _promote(self, lift: Lift, *, escape: bool) -> str:
        """Every thread to a running class, nice -20, any CPU, the first of the I/O classes; what was changed."""
        # The directory is of the process behind the pidfd as long as that is not dead: its pid is not free before.
        tids = _list_threads(self._proc_fd, lift.pid)
        if is_readable(lift.pidfd):
            return ""
        changed: set[str] = set()
        for tid in tids:
            changed.update(promote_thread(tid, escape=escape, realtime=self._realtime))
        return ", ".join(sorted(changed))

    def _look_for_ends(self, now: float) -> None:
        """Let go of the dead, and put back what need not be lifted any more; now and then."""
        if now < self._next_look:
            return
        self._next_look = now + (LOOK_AGAIN_S if now < self._worked + FRESH_S else LOOK_SELDOM_S)
        dead = find_readable([*self._doomed.values(), *(fd for pulled in self._pulled for fd in pulled.pidfds)])
        self._put_back(dead)
        for pid, fd in [(pid, fd) for pid, fd in self._doomed.items() if fd in dead]:
            del self._doomed[pid]
            os.close(fd)

    def _put_back(self, dead: set[int]) -> None:
        """The old values of cgroups whose victims are gone; a cgroup may be gone with them, or changed by its owner."""
        for pulled in [each for each in self._pulled if dead.issuperset(each.pidfds)]:
            self._pulled.remove(pulled)
            for fd in pulled.pidfds:
                os.close(fd)
            lever = pulled.lever
            now = read_value(lever.path)
            if now is None or not now.startswith(lever.free):
                continue
            try:
                write_value(lever.path, lever.found)
            except OSError:
                continue


def promote_thread(tid: int, *, escape: bool = False, realtime: bool = False) -> list[str]:
    """Let a thread of a victim run: a running class (SCHED_OTHER, or with ``escape`` SCHED_RR, which no CPU limit
    holds, or with ``realtime`` the same before everybody else), nice -20, every CPU, I/O best effort 0. What was in its
    way, in words. Rights that we lack and threads that
    are gone change nothing.
    """
    changed = []
    try:
        policy = os.sched_getscheduler(tid) & ~os.SCHED_RESET_ON_FORK
        if (escape or realtime) and policy not in RUNS_ANYWAY:
            os.sched_setscheduler(tid, os.SCHED_RR, os.sched_param(1))
        elif policy in SLOW_CLASSES:
            os.sched_setscheduler(tid, os.SCHED_OTHER, os.sched_param(0))
        if escape and policy not in RUNS_ANYWAY:
            changed.append("CPU limit escaped")
        elif policy in SLOW_CLASSES:
            changed.append(SLOW_CLASSES[policy])
        nice = os.getpriority(os.PRIO_PROCESS, tid)
        os.setpriority(os.PRIO_PROCESS, tid, NICEST)
        if nice > 0:
            changed.append(f"nice {nice}")
        cpus = os.cpu_count() or 1
        if len(os.sched_getaffinity(tid)) < cpus:
            os.sched_setaffinity(tid, range(cpus))
            changed.append("CPU affinity")
        ioprio_set_thread(tid, IOPRIO_CLASS_BE, 0)
    except OSError:
        return changed
    return changed


def keep_apart(reaper_tid: int, proc_fd: int, pid: int, pidfd: int) -> None:
    """The reaper's thread gets the caller's CPU (the caller is more urgent, so nobody more urgent holds that CPU), the
    victim all others. On one CPU there is nothing to part.

    A reaper that leaves its real-time class lands where the last real-time wake-up has pushed it: often beside the
    victim on one CPU, while whoever starved the victim has another CPU to itself until the load balancer looks, 50 to
    100 ms later.
    """
    try:
        mine = sched_getcpu()
        others = set(range(os.cpu_count() or 1)) - {mine}
        if not others or mine not in os.sched_getaffinity(reaper_tid):
            return
        tids = _list_threads(proc_fd, pid)
        if not is_readable(pidfd):
            for tid in tids:
                os.sched_setaffinity(tid, others)
        os.sched_setaffinity(reaper_tid, {mine})
    except OSError:
        return  # a thread is gone, or a cpuset leaves it no other CPU: they stay as they are


def _leave(lever: Lever, pid: int) -> str:
    """It alone goes to the cgroup above, in this hierarchy only; one that leaves a frozen cgroup is thawed."""
    try:
        write_value(f"{os.path.dirname(lever.directory)}/cgroup.procs", str(pid))
    except OSError:
        return ""
    return f"left its cgroup with {lever.file} {lever.found}"


def _list_threads(proc_fd: int, pid: int) -> list[int]:
    try:
        fd = os.open(f"{pid}/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc_fd)
    except OSError:
        return []
    try:
        return [int(name) for name in os.listdir(fd)][:MOST_THREADS]
    except OSError:
        return []
    finally:
        os.close(fd)
