"""Tell the service manager that a unit ran out of memory: ``user.oomd_ooms`` on its cgroup before the signal,
``user.oomd_kill`` after it, both counted up, as systemd-oomd and Meta's oomd do.

systemd reads them when a process of the unit that it waits for has ended, or the unit's cgroup became empty: then the
unit's result is ``oom-kill`` instead of ``signal``, OOMPolicy= is applied and the kill is counted. So they are written
only where one of the two will follow at once. On a unit that lives on, a worker or two short, the manager would find
them at the next clean stop, and call that one out of memory.
"""

from __future__ import annotations

import os

from oomd.kernel.cgroup_levers import read_members
from oomd.kernel.process import parse_cgroup_v2, parse_stat, read_pid_file
from oomd.model.placement import unit_path
from oomd.model.snapshot import ProcessId
from oomd.model.units import SECOND_US

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oomd.kernel.scope import ScopeGuard
    from oomd.model.snapshot import Process

OOMS = "user.oomd_ooms"
"""How often the unit ran out of memory."""
KILLS = "user.oomd_kill"
"""How many of its processes were signalled for that."""
LEADING = 16
"""Leaders whose units' directories are kept open."""
FRESH_US = 2 * SECOND_US
"""How often those are looked up anew: a unit that was started again has another directory under the same name."""
MOST_MEMBERS = 64
"""In a cgroup with more processes nobody looks whether all of them go, or are in scope."""
_FIRST_BYTES = 4096
"""Of cgroup.procs: more pids than one action takes."""

Counted = tuple[tuple[int, int], ...]
"""Descriptors of directories whose :data:`OOMS` was counted up, and how many processes go there."""


class Tally:
    """Counts on cgroups' directories. Nothing here ever raises: a count is no reason to miss a kill."""

    def __init__(self, root: str, guard: ScopeGuard, proc_fd: int) -> None:
        """``root``: where version 2 is mounted."""
        self._root = root
        self._guard = guard
        self._proc_fd = proc_fd
        self._kept: dict[str, int] = {}
        self._next_us = 0

    def keep(self, cgroups: Iterable[str], now_us: int) -> None:
        """Open the directories of the units of these cgroups ahead of the signal: on the way to a kill no path is
        looked up where that can be helped.
        """
        if now_us < self._next_us:
            return
        self._next_us = now_us + FRESH_US
        kept = {path: fd for path in {unit_path(each) for each in cgroups} if path and (fd := self._open(path)) >= 0}
        self.close()
        self._kept = kept

    def close(self) -> None:
        """Let go of every directory."""
        for fd in self._kept.values():
            os.close(fd)
        self._kept = {}

    def count_ooms(self, processes: Iterable[Process]) -> Counted:
        """These processes are about to be signalled as one: count that on every unit that ends with them."""
        by_unit: dict[str, list[Process]] = {}
        for process in processes:
            unit = unit_path(process.cgroup)
            if unit:
                by_unit.setdefault(unit, []).append(process)
        counted = []
        for unit, members in by_unit.items():
            if self._will_be_noticed(unit, members):
                fd = self._directory(self._place(unit, members))
                if fd >= 0:
                    count_up(fd, OOMS, 1)
                    counted.append((fd, len(members)))
        return tuple(counted)

    def count_kills(self, counted: Counted) -> None:
        """They were signalled."""
        for fd, count in counted:
            count_up(fd, KILLS, count)
            os.close(fd)

    def _directory(self, path: str) -> int:
        """A descriptor of our own of this cgroup's directory, or -1."""
        kept = self._kept.get(path)
        if kept is None:
            return self._open(path)
        try:
            return os.dup(kept)
        except OSError:
            return -1

    def _open(self, path: str) -> int:
        try:
            return os.open(self._root + path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (OSError, ValueError):  # gone, or a name that no path can have
            return -1

    def _will_be_noticed(self, unit: str, members: list[Process]) -> bool:
        """Whether the unit's manager is the parent of one of them, or nobody of the unit is left."""
        parents = {process.ppid for process in members}
        if 1 in parents or any(self._is_manager(parent, unit) for parent in parents):
            return True
        return self._is_everybody(unit, {process.id.pid for process in members})

    def _is_manager(self, pid: int, unit: str) -> bool:
        """Whether that is the user's manager which the unit belongs to: it lives beside its units, in a scope of its
        own.
        """
        above, separator, _ = unit.partition(".service/")
        if not separator or not above.rpartition("/")[2].startswith("user@"):
            return False
        try:
            data = read_pid_file(self._proc_fd, pid, "cgroup")
        except OSError:
            return False
        return data is not None and parse_cgroup_v2(data) == f"{above}.service/init.scope"

    def _is_everybody(self, unit: str, pids: set[int]) -> bool:
        """Whether nobody else is in the cgroup or below."""
        if len(pids) > MOST_MEMBERS:
            return False
        directory = self._directory(unit)
        if directory < 0:
            return False
        try:
            if not _first_pids(directory) <= pids:
                return False
            return set(read_members(self._root + unit)) <= pids
        except (OSError, ValueError):
            return False
        finally:
            os.close(directory)

    def _place(self, unit: str, members: list[Process]) -> str:
        """The unit's cgroup; where strangers to our scope are in it beside the victims' own, that one."""
        own = max(members, key=lambda process: process.size_bytes).cgroup
        if self._guard.scope.is_machine or own == unit or self._is_all_in_scope(unit):
            return unit
        return own

    def _is_all_in_scope(self, unit: str) -> bool:
        try:
            pids = read_members(self._root + unit)
            if len(pids) > MOST_MEMBERS:
                return False
            return all(self._is_in_scope(pid) for pid in pids)
        except (OSError, ValueError):
            return False

    def _is_in_scope(self, pid: int) -> bool:
        data = read_pid_file(self._proc_fd, pid, "stat")
        return data is None or not self._guard.prove(ProcessId(pid, parse_stat(data).start_ticks))


def count_up(directory: int, name: str, by: int) -> None:
    """Add to a decimal attribute; what is no number counts as 0. Where the file system keeps none, or the directory is
    not ours to mark (a user's, without CAP_DAC_OVERRIDE), nothing happens.
    """
    before = 0
    try:
        before = int(os.getxattr(directory, name))
    except (OSError, ValueError):
        pass
    try:
        os.setxattr(directory, name, str(max(0, before) + by).encode())
    except OSError:
        pass


def _first_pids(directory: int) -> set[int]:
    fd = os.open("cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        data = os.read(fd, _FIRST_BYTES)
    finally:
        os.close(fd)
    whole = data if len(data) < _FIRST_BYTES else data[: data.rfind(b"\n") + 1]
    return {int(line) for line in whole.split()}
