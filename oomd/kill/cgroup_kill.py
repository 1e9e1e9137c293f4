"""SIGKILL for a whole cgroup by one write: cgroup.kill, Linux 5.14; Documentation/admin-guide/cgroup-v2.rst.

The kernel kills every process in the cgroup and below it, and whoever is being forked there at that moment. Signals
through pidfds, one after the other, leave a fork bomb the time to go on elsewhere.

For callers: :func:`kill_cgroup` takes the pidfds of those who are under warrant already and asks ``grant`` for one of
whoever else it finds; it writes only when everybody is under warrant, and says whether it did. What it was granted is
added to ``pidfds``, whose descriptors stay the caller's. Where it says no nobody was touched: signals through the
pidfds do it then, and to a process that the write has killed already a signal does no harm, so that signal and reap
may follow in any case.
"""

from __future__ import annotations

from oomd.kernel.pidfd import is_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.kernel.cgroup_dir import CgroupDirectory

MOST_LOOKS = 8
"""Looks at who is there. What forks so fast that somebody new is there every time is left to signals, and to the next
alarm."""


def kill_cgroup(cgroup: CgroupDirectory, pidfds: dict[int, int], grant: Callable[[int], int | None]) -> bool:
    """Kill everybody in the cgroup and below it if each of them is under warrant; whether that was done.

    ``pidfds``: of those under warrant, by pid. A process that lives cannot have got the pid of one whose pidfd is not
    readable, so the same number is the same process. ``grant`` gives the pidfd of a warrant for a pid that is not among
    them, or None for one that has gone meanwhile; it raises Refused for whoever may not be touched, and that goes to
    the caller. Between the last look and the write only children of those under warrant can join by themselves; whoever
    moves a stranger into the cgroup at that moment must be privileged there.
    """
    try:
        if not _everybody_is_granted(cgroup, pidfds, grant):
            return False
        cgroup.write("cgroup.kill", "1")
    except (OSError, ValueError):  # gone, an old kernel, a threaded cgroup (EOPNOTSUPP)
        return False
    return True


def _everybody_is_granted(cgroup: CgroupDirectory, pidfds: dict[int, int], grant: Callable[[int], int | None]) -> bool:
    """Whether one look found nobody who is not under warrant; False also where nobody is there."""
    for _ in range(MOST_LOOKS):
        members = cgroup.read_members()
        unknown = [pid for pid in members if pid not in pidfds or is_readable(pidfds[pid])]
        if not unknown:
            return bool(members)
        for pid in unknown:
            pidfd = grant(pid)
            if pidfd is not None:
                pidfds[pid] = pidfd
    return False
