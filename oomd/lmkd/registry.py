"""The processes that clients have registered: the only ones that lmkd ever kills, each with its importance.

Errors go nowhere but into the log, in the words of the original. Unlike there, ownership is checked before anything is
changed.
"""

from __future__ import annotations

import errno
import os

from oomd.kernel.pidfd import is_readable
from oomd.lmkd.processes import read_comm, read_identity, read_leader, read_uid
from oomd.lmkd.wire import HIGHEST_ADJ, LOWEST_ADJ
from oomd.model.snapshot import ProcessId
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from oomd.lmkd.names import Names
    from oomd.lmkd.wire import Registration
    from oomd.model.snapshot import Process

    class Admitted(Protocol):
        """A process that may be touched."""

        @property
        def pidfd(self) -> int:
            """Ours to close."""

        @property
        def write_errno(self) -> int:
            """0 when its oom_score_adj was written."""

    class Watchdog(Protocol):
        """Who kills when we hang."""

        def note(self, record: Record) -> None:
            """It was registered, or brought up to date."""

        def drop(self, pid: int) -> None:
            """It is registered no more."""

    class Admits(Protocol):
        """Where warrants come from."""

        def admit(self, process: Process, adj: int | None) -> Admitted | str:
            """Write the number (None: none) and hand over a pidfd, or say why this process may not be touched."""


MOST_RECORDS = 8192
"""More processes than any framework runs; each costs a descriptor."""
ERROR, WARNING = "E", "W"
"""The letters of logcat."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a packet, as the kernel says (SCM_CREDENTIALS, unix(7))."""

    pid: int
    uid: int


@dataclass(slots=True)
class Record:
    """One registered process."""

    id: ProcessId
    pidfd: int
    """Kept for the record's life: a pid that is handed out again is another process."""
    uid: int
    """As the client said."""
    adj: int
    owner: int | None
    """The pid of who registered it; None when that client is gone: whoever touches it next owns it."""
    order: int
    """Of the last (re-)registration: the lowest of an adj is the one that was longest left alone."""


@dataclass(frozen=True, slots=True)
class Registered:
    """What the decision needs to know of a record."""

    id: ProcessId
    adj: int
    uid: int
    order: int
    """Lower ones were touched longer ago."""


class Registry:
    """Owns the records, their descriptors and the counts of kills."""

    def __init__(
        self,
        admits: Admits,
        proc_fd: int,
        say: Callable[[str, str], None],
        names: Names,
        *,
        compatible: bool,
        most: int = MOST_RECORDS,
    ) -> None:
        """``say`` takes a letter of logcat and a text. Not ``compatible``: who is neither root nor our own user may
        register processes of its own user only.
        """
        self._admits = admits
        self._proc_fd = proc_fd
        self._say = say
        self._names = names
        self._compatible = compatible
        self._most = most
        self._records: dict[int, Record] = {}
        self._order = 0
        self._kills: dict[int, int] = {}
        self.kills = 0
        """In all."""
        self.watchdog: Watchdog | None = None
        """Told of every change."""

    def __len__(self) -> int:
        return len(self._records)

    @property
    def records(self) -> list[Record]:
        """Everybody registered, the dead among them."""
        return list(self._records.values())

    def record_of(self, pid: int) -> Record | None:
        """Who is registered with this pid."""
        return self._records.get(pid)

    def candidates(self) -> tuple[Registered, ...]:
        """Everybody registered, least important first, of equal ones the one that was longest left alone; who of them
        has ended shows when it is looked at.
        """
        found = sorted(self._records.values(), key=lambda each: (-each.adj, each.order))
        return tuple(Registered(each.id, each.adj, each.uid, each.order) for each in found)

    def register(self, sender: Sender, asked: Registration) -> None:
        """PROCPRIO: take it in, or bring it up to date."""
        if not LOWEST_ADJ <= asked.adj <= HIGHEST_ADJ:
            self._say(ERROR, f"Invalid PROCPRIO oomadj argument {asked.adj}")
        elif asked.kind not in (0, 1):
            self._say(ERROR, f"Invalid PROCPRIO process type argument {asked.kind}")
        elif self._may_change(asked.pid, sender, "modify"):
            self._take_in(sender, asked)

    def remove(self, sender: Sender, pid: int) -> None:
        """PROCREMOVE: forget it."""
        if self._may_change(pid, sender, "unregister"):
            self.forget(pid)

    def purge(self, sender: Sender) -> None:
        """PROCPURGE: forget what the sender owns, and what nobody owns."""
        mine = [
            record
            for record in self._records.values()
            if record.owner == sender.pid or (record.owner is None and not self._other_user(sender, record.id.pid))
        ]
        for record in mine:
            self.forget(record.id.pid)

    def meet(self, sender: Sender) -> None:
        """Somebody speaks for the first time: what it is called is good to know when it is to be told of."""
        self._names.ask(sender.pid)

    def disown(self, owner: int) -> None:
        """This client is gone: its records stay, and belong to whoever touches them next."""
        if owner not in self._records:
            self._names.forget(owner)
        for record in self._records.values():
            if record.owner == owner:
                record.owner = None

    def forget(self, pid: int) -> None:
        """Drop a record and its descriptor; nothing when there is none."""
        record = self._records.pop(pid, None)
        if record is not None:
            os.close(record.pidfd)
            self._names.forget(pid)
            if self.watchdog is not None:
                self.watchdog.drop(pid)

    def forget_dead(self) -> None:
        """Drop whoever has ended."""
        for pid in [pid for pid, record in self._records.items() if is_readable(record.pidfd)]:
            self.forget(pid)

    def note_kill(self, process_id: ProcessId, adj: int) -> None:
        """It was killed: counted, and forgotten."""
        self._kills[adj] = self._kills.get(adj, 0) + 1
        self.kills += 1
        self.forget(process_id.pid)

    def count_kills(self, lowest: int, highest: int) -> int:
        """GETKILLCNT: kills within this range of adj; beyond the highest adj: all of them."""
        if lowest > highest:
            return 0
        if lowest > HIGHEST_ADJ:
            return self.kills
        return sum(count for adj, count in self._kills.items() if lowest <= adj <= highest)

    def close(self) -> None:
        """Forget everybody."""
        for pid in list(self._records):
            self.forget(pid)

    def _may_change(self, pid: int, sender: Sender, what: str) -> bool:
        record = self._records.get(pid)
        if record is None:
            return True
        if is_readable(record.pidfd):  # its pid may be another process by now, which nobody has registered
            self.forget(pid)
            return True
        if record.owner is None and not self._other_user(sender, pid):
            record.owner = sender.pid
        if record.owner == sender.pid:
            return True
        name = self._names.of(sender.pid) or read_comm(self._proc_fd, sender.pid)
        offender = f"{name} ({sender.uid}, {sender.pid})"
        self._say(ERROR, f"{offender} attempts to {what} a process registered by another client")
        return False

    def _take_in(self, sender: Sender, asked: Registration) -> None:
        process = self._identify(sender, asked.pid)
        if process is None:
            return
        record = self._records.get(asked.pid)
        if record is None and not self._has_room():
            self._say(ERROR, f"process {asked.pid} not registered: {self._most} processes are registered already")
            return
        try:
            admitted = self._admits.admit(process, None if asked.only_here else asked.adj)
        except OSError as error:
            self._say(ERROR, f"pidfd_open for pid {asked.pid} failed; errno={error.errno}")
            return
        if isinstance(admitted, str):
            self._say(WARNING, f"process {asked.pid} not registered: it {admitted}")
            return
        if admitted.write_errno in (errno.ENOENT, errno.ESRCH):
            os.close(admitted.pidfd)
            self._say_missing(asked.pid, admitted.write_errno)
            return
        if admitted.write_errno:
            number = admitted.write_errno
            self._say(ERROR, f"/proc/{asked.pid}/oom_score_adj write {asked.adj} failed; errno={number}")
        self._store(sender, asked, process.id, admitted.pidfd)

    def _store(self, sender: Sender, asked: Registration, process_id: ProcessId, pidfd: int) -> None:
        self._order += 1
        before = self._records.pop(asked.pid, None)
        if before is not None:
            os.close(before.pidfd)
        record = Record(process_id, pidfd, asked.uid, asked.adj, sender.pid, self._order)
        self._records[asked.pid] = record
        self._names.ask(asked.pid)
        if self.watchdog is not None:
            self.watchdog.note(record)

    def _identify(self, sender: Sender, pid: int) -> Process | None:
        """Who is meant, after what the client may not mean was told."""
        leader = read_leader(self._proc_fd, pid) if pid > 0 else None
        if leader is not None and leader != pid:
            self._say(ERROR, f"Attempt to register a task that is not a thread group leader (tid {pid}, tgid {leader})")
            return None
        process = read_identity(self._proc_fd, pid) if pid > 0 else None
        if process is None:
            self._say_missing(pid, errno.ENOENT)
            return None
        if self._other_user(sender, pid):
            uid = read_uid(self._proc_fd, pid)
            self._say(ERROR, f"process {pid} not registered: it belongs to user {uid}, not {sender.uid}")
            return None
        return process

    def _other_user(self, sender: Sender, pid: int) -> bool:
        """Whether this process is none that the sender may decide about: a user's own only, outside compatibility."""
        if self._compatible or sender.uid in (0, os.geteuid()):
            return False
        return read_uid(self._proc_fd, pid) != sender.uid

    def _say_missing(self, pid: int, number: int) -> None:
        self._say(WARNING, f"Failed to open /proc/{pid}/oom_score_adj; errno={number}: process {pid} might be dead")

    def _has_room(self) -> bool:
        if len(self._records) >= self._most:
            self.forget_dead()
        return len(self._records) < self._most
