"""Which processes lie inside the scope: facts read from procfs.

A process that was once seen inside a tree stays inside, whoever adopts it later; where the tree's root is a subreaper
nothing escapes at all.
"""

from __future__ import annotations

from oomd.kernel.process import (
    parse_cgroup_v1_memory,
    parse_cgroup_v2,
    parse_stat,
    parse_status,
    read_pid_file,
)
from oomd.model.scope import CGROUP, MACHINE, TREE, UID, Scope, ScopeError, ScopePart
from oomd.model.snapshot import ProcessId

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol, TypeVar

    Parsed = TypeVar("Parsed")

    class Kin(Protocol):
        """What membership in a tree is told from."""

        pid: int
        start_ticks: int
        ppid: int


LONGEST_ANCESTRY = 4096
"""More generations than any real process has: ends the walk should procfs ever show a circle."""


class ScopeGuard:
    """Answers "inside?" for one scope, from the procfs behind ``proc_fd``."""

    def __init__(self, scope: Scope, proc_fd: int) -> None:
        """Raises ScopeError when the root of a tree does not exist."""
        self.scope = scope
        self._proc_fd = proc_fd
        self.roots: dict[int, ProcessId] = {}
        self._members: dict[int, dict[int, int]] = {root: {} for root in scope.tree_roots}
        """For each root the members once seen: pid to start time."""
        for root in scope.tree_roots:
            found = self._read_kin(root)
            if found is None:
                raise ScopeError(f"tree:{root}: there is no process {root}")
            self.roots[root] = ProcessId(root, found[0])

    def note_members(self, kin: Mapping[int, Kin]) -> None:
        """Remember who stands in the trees now; forget whom the kernel no longer shows."""
        for root, members in self._members.items():
            for pid in [pid for pid, start in members.items() if pid not in kin or kin[pid].start_ticks != start]:
                del members[pid]
            verdicts: dict[int, bool] = {}
            for pid in kin:
                if self._descends(pid, root, kin, verdicts):
                    members[pid] = kin[pid].start_ticks

    def note_member(self, kin: Kin) -> None:
        """Remember a newcomer whose parent is a member."""
        for root, members in self._members.items():
            if self._is_root(kin.pid, kin.start_ticks, root) or kin.ppid in members or kin.ppid == root:
                members[kin.pid] = kin.start_ticks

    def why_outside_tree(self, pid: int, start_ticks: int) -> str:
        """Why the process is outside one of the trees, by what was noted; empty when it is inside all of them."""
        for root, members in self._members.items():
            if members.get(pid) != start_ticks:
                return f"is outside the tree of {root}"
        return ""

    def why_outside(self, pid: int, start_ticks: int, uid: int | None = None, cgroup: str | None = None) -> str:
        """The same for every part of the scope; what is not given (uid, cgroup) is read where the scope asks for it."""
        for part in self.scope.parts:
            why = self._why_outside_part(part, pid, start_ticks, uid, cgroup)
            if why:
                return why
        return ""

    def prove(self, process_id: ProcessId) -> str:
        """Why the process may not be touched, read from the kernel now; empty when it lies inside.

        Membership of a tree is proved by the chain of parents unless the process was proved to be inside before.
        """
        for root, members in self._members.items():
            if members.get(process_id.pid) != process_id.start_ticks and self._climbs_to(process_id, root):
                members[process_id.pid] = process_id.start_ticks
        return self.why_outside(process_id.pid, process_id.start_ticks)

    def _why_outside_part(
        self, part: ScopePart, pid: int, start_ticks: int, uid: int | None, cgroup: str | None
    ) -> str:
        if part.kind == MACHINE:
            return ""
        if part.kind == TREE:
            inside = self._members[part.number].get(pid) == start_ticks
            return "" if inside else f"is outside the tree of {part.number}"
        if part.kind == UID:
            actual = self._read_uid(pid) if uid is None else uid
            return "" if actual == part.number else f"belongs to user {actual}, not {part.number}"
        assert part.kind == CGROUP
        paths = self._read_cgroups(pid) if cgroup is None else (cgroup,)
        inside = any(path == part.path or path.startswith(part.path.rstrip("/") + "/") for path in paths)
        return "" if inside else f"is outside the cgroup {part.path}"

    def _descends(self, pid: int, root: int, kin: Mapping[int, Kin], verdicts: dict[int, bool]) -> bool:
        chain: list[int] = []
        verdict = False
        while pid not in verdicts and len(chain) < LONGEST_ANCESTRY:
            process = kin.get(pid)
            if process is None:
                break
            chain.append(pid)
            if self._is_root(pid, process.start_ticks, root) or self._members[root].get(pid) == process.start_ticks:
                verdict = True
                break
            pid = process.ppid
        else:
            verdict = verdicts.get(pid, False)
        for link in chain:
            verdicts[link] = verdict
        return verdict

    def _climbs_to(self, process_id: ProcessId, root: int) -> bool:
        pid = process_id.pid
        for _ in range(LONGEST_ANCESTRY):
            kin = self._read_kin(pid)
            if kin is None or (pid == process_id.pid and kin[0] != process_id.start_ticks):
                return False
            if self._is_root(pid, kin[0], root) or self._members[root].get(pid) == kin[0]:
                return True
            pid = kin[1]
            if pid <= 0:
                return False
        return False

    def _is_root(self, pid: int, start_ticks: int, root: int) -> bool:
        return pid == root and self.roots[root].start_ticks == start_ticks

    def _read_kin(self, pid: int) -> tuple[int, int] | None:
        stat = self._read(pid, "stat", parse_stat)
        return None if stat is None else (stat.start_ticks, stat.ppid)

    def _read_uid(self, pid: int) -> int | None:
        status = self._read(pid, "status", parse_status)
        return None if status is None else status.uid

    def _read_cgroups(self, pid: int) -> tuple[str, ...]:
        paths = self._read(pid, "cgroup", lambda data: (parse_cgroup_v2(data), parse_cgroup_v1_memory(data)))
        return tuple(path for path in paths or () if path)

    def _read(self, pid: int, name: str, parse: Callable[[bytes], Parsed]) -> Parsed | None:
        """A file of a process, parsed; what cannot be read proves nothing, so its process is outside."""
        try:
            data = read_pid_file(self._proc_fd, pid, name)
            return parse(data) if data else None
        except (OSError, ValueError):
            return None
