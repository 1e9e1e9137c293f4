"""A value of a cgroup that is changed for a while: written down, changed, kept an eye on, put back.

Everybody in the cgroup is under warrant before it is changed, and looked at again after it: whoever joined at that
moment and may not be touched has the value put back at once. So it goes on once a second for as long as it lasts.
"""

from __future__ import annotations

import time

from oomd.debts import Debt, put_back
from oomd.kernel.cgroup_dir import CgroupDirectory
from oomd.kill.members import Members
from oomd.kill.warrant import Refused
from oomd.kill.worker import Worker
from oomd.model.decision import DONE, IMPOSSIBLE, PUT_BACK, StepResult
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Protocol

    from oomd.debts import Debts
    from oomd.kill.warrant import Gate
    from oomd.kill.worker import Results

    class Lever(Protocol):
        """One file of a cgroup that can be changed and put back."""

        @property
        def file(self) -> str:
            """Its name."""

        def aim(self, cgroup: CgroupDirectory, to: float) -> tuple[str, list[str]]:
            """What it says now, and what is to be written, one after the other. Raises Refused where there is nothing
            to change, OSError.
            """

        def why_not(self, path: str, pids: Iterable[int]) -> str:
            """Why these processes may not be moved so; empty where they may."""


LOOK_AGAIN_S = 1.0
NO_DEBTS = "cannot be written down: there is no runtime directory"


@dataclass(frozen=True, slots=True)
class Pull:
    """Change that for a while."""

    decision_id: str
    path: str
    """Of the cgroup, as it is reported."""
    directory: str
    inode: int
    at_most_s: float
    to: float
    spared: Mapping[int, str]
    """Pids that must not be in it, and why."""


@dataclass(slots=True)
class _Held:
    """What is changed now."""

    pull: Pull
    cgroup: CgroupDirectory
    members: Members
    debt: Debt
    until_s: float
    began_s: float


class Holder(Worker):
    """Pulls one kind of lever, and lets go of it."""

    def __init__(
        self, lever: Lever, build_gate: Callable[[], Gate], proc_fd: int, debts: Debts | None, results: Results
    ) -> None:
        """``build_gate`` gives a gate that is this thread's own."""
        super().__init__(lever.file)
        self._lever = lever
        self.gate = build_gate()
        self._proc_fd = proc_fd
        self._debts = debts
        self._results = results
        self._held: dict[str, _Held] = {}
        self._dropped: set[str] = set()
        """Decisions that were let go of, perhaps before their turn came."""

    def pull(self, pull: Pull) -> None:
        """Change it, as soon as the thread comes to it."""
        self.submit(lambda: self._pull(pull))

    def let_go(self, decision_id: str, why: str) -> None:
        """Put back what this decision changed, if it did; a change that is under way ends."""
        self._dropped.add(decision_id)
        self.submit(lambda: self._let_go(decision_id, why))

    def patience_s(self) -> float | None:
        """As long as something is held it is looked after."""
        if not self._held:
            return None
        due = min(held.until_s for held in self._held.values())
        return max(0.0, min(LOOK_AGAIN_S, due - time.monotonic()))

    def tend(self) -> None:
        """End what has lasted too long, what strangers have joined, what somebody else has changed."""
        for held in list(self._held.values()):
            why = self._why_end(held)
            if why:
                self._end(held, why)

    def finish(self) -> None:
        """Everything is put back."""
        for held in list(self._held.values()):
            self._end(held, "oomd ends")

    def _pull(self, pull: Pull) -> None:
        begin = time.monotonic()
        try:
            held = self._try(pull)
        except Refused as verdict:
            result = StepResult(pull.decision_id, IMPOSSIBLE, str(verdict))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            result = StepResult(pull.decision_id, IMPOSSIBLE, f"{self._lever.file}: {why}")
        else:
            self._held[pull.decision_id] = held
            took_us = int((time.monotonic() - begin) * 1e6)
            result = StepResult(pull.decision_id, DONE, f"{self._lever.file} {held.debt.ours[-1]}", took_us=took_us)
        self._results.add(result)

    def _try(self, pull: Pull) -> _Held:
        """Raises Refused, OSError or ValueError, and all is as it was."""
        if self._debts is None:
            raise Refused(NO_DEBTS)
        if any(held.pull.directory == pull.directory for held in self._held.values()):
            raise Refused("is held already")
        cgroup = CgroupDirectory(pull.directory, pull.inode)
        members = Members(self.gate, self._proc_fd, cgroup, pull.spared)
        try:
            self._prove(pull, members)
            found, values = self._lever.aim(cgroup, pull.to)
            debt = self._write(pull, cgroup, members, found, values)
        except BaseException:
            members.close()
            cgroup.close()
            raise
        now = time.monotonic()
        return _Held(pull, cgroup, members, debt, now + pull.at_most_s, now)

    def _prove(self, pull: Pull, members: Members) -> None:
        members.prove()
        if not members.warrants:
            raise Refused("has no processes any more")
        why = self._lever.why_not(pull.path, members.warrants)
        if why:
            raise Refused(why)

    def _write(self, pull: Pull, cgroup: CgroupDirectory, members: Members, found: str, values: list[str]) -> Debt:
        """Each value in turn, and a last look at who is there; whatever goes wrong, the former value stands again."""
        assert self._debts is not None
        before = found
        debt = Debt(self._lever.file, cgroup.inode, pull.directory, found, (found,))
        try:
            for value in values:
                self._check_wanted(pull)
                # Both, for the moment between writing it down and writing it.
                debt = Debt(self._lever.file, cgroup.inode, pull.directory, found, (before, value))
                self._debts.write_down(debt)
                members.prove()
                cgroup.write(self._lever.file, value)
                before = cgroup.read(self._lever.file)
                debt = Debt(self._lever.file, cgroup.inode, pull.directory, found, (value, before))
            self._prove(pull, members)
        except BaseException:
            self._put_back(debt)
            raise
        return debt

    def _check_wanted(self, pull: Pull) -> None:
        if pull.decision_id in self._dropped:
            raise Refused("the alarm is over")

    def _put_back(self, debt: Debt) -> str:
        """Why it could not be done; empty where it was. What is left changed stays written down for the next start."""
        assert self._debts is not None
        try:
            put_back(debt)
        except OSError as error:
            return f"{debt.file} cannot be put back: {error.strerror}"
        self._debts.strike_out(debt)
        return ""

    def _why_end(self, held: _Held) -> str:
        if time.monotonic() >= held.until_s:
            return "its time is over"
        try:
            held.members.prove()
            if held.cgroup.read(self._lever.file) not in held.debt.ours:
                return "somebody else has changed it"
        except Refused as verdict:
            return str(verdict)
        except (OSError, ValueError):
            return "the cgroup is gone"
        return self._lever.why_not(held.pull.path, held.members.warrants)

    def _let_go(self, decision_id: str, why: str) -> None:
        held = self._held.get(decision_id)
        if held is not None:
            self._end(held, why)
        self._dropped.discard(decision_id)

    def _end(self, held: _Held, why: str) -> None:
        del self._held[held.pull.decision_id]
        held.members.close()
        held.cgroup.close()
        wrong = self._put_back(held.debt)
        took_us = int((time.monotonic() - held.began_s) * 1e6)
        why = f"{why}; {wrong}" if wrong else why
        self._results.add(StepResult(held.pull.decision_id, PUT_BACK, why, took_us=took_us))
