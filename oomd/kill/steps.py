"""Carries gentle steps out, each kind by a thread of its own that is started when it is needed first: the loop asks and
goes on, and hears what came of it through a descriptor. Nothing here is ever waited for, and no kill waits for it.
"""

from __future__ import annotations

import os
import time

from oomd.debts import Debts
from oomd.kernel.cgroup_dir import CgroupDirectory, directory_of
from oomd.kill.freeze import Freeze
from oomd.kill.held import Holder, Pull
from oomd.kill.members import Members
from oomd.kill.reclaim import Reclaimer, Take
from oomd.kill.throttle import Throttle
from oomd.kill.warrant import Refused
from oomd.kill.worker import Results, Worker
from oomd.model.decision import IMPOSSIBLE, PROVED, StepResult
from oomd.model.steps import FreezeStep, ReclaimStep, RestartStep, ThrottleStep
from oomd.model.units import SECOND_US

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from oomd.kill.warrant import Gate
    from oomd.model.decision import Candidate
    from oomd.model.proactive import Probe
    from oomd.model.snapshot import MemoryStatus
    from oomd.model.steps import Gentle

END_S = 2.0
"""How long the daemon's end waits for what must be put back; the outside process does the rest."""
NO_CGROUPS = "there are no cgroups of version 2"


class Prover(Worker):
    """Says whether everybody in a cgroup may be touched, and touches nobody."""

    def __init__(self, build_gate: Callable[[], Gate], proc_fd: int, results: Results) -> None:
        super().__init__("prove")
        self.gate = build_gate()
        self._proc_fd = proc_fd
        self._results = results

    def prove(self, decision_id: str, directory: str, spared: Mapping[int, str]) -> None:
        """As soon as the thread comes to it."""
        self.submit(lambda: self._prove(decision_id, directory, spared))

    def _prove(self, decision_id: str, directory: str, spared: Mapping[int, str]) -> None:
        try:
            with CgroupDirectory(directory) as cgroup:
                members = Members(self.gate, self._proc_fd, cgroup, spared)
                try:
                    members.prove()
                finally:
                    members.close()
        except Refused as verdict:
            self._results.add(StepResult(decision_id, IMPOSSIBLE, str(verdict)))
        except (OSError, ValueError) as error:
            self._results.add(StepResult(decision_id, IMPOSSIBLE, str(error)))
        else:
            self._results.add(StepResult(decision_id, PROVED))


class Steps:
    """The gentle steps of one daemon."""

    def __init__(self, build_gate: Callable[[], Gate], proc_fd: int, root: str | None, debts: Debts | None) -> None:
        """``root``: where cgroups of version 2 are mounted; ``debts``: where what must be put back is written down,
        None where there is no runtime directory.
        """
        self._build_gate = build_gate
        self._proc_fd = proc_fd
        self._root = root
        self._debts = debts
        self._results = Results()
        self._throttler: Holder | None = None
        self._freezer: Holder | None = None
        self._reclaimer: Reclaimer | None = None
        self._prover: Prover | None = None

    @property
    def fd(self) -> int:
        """Readable when somebody has something to say."""
        return self._results.fd

    def take_results(self) -> list[StepResult]:
        """What was done since."""
        return self._results.take()

    def begin(
        self, decision_id: str, step: Gentle, target: Candidate, status: MemoryStatus, spared: Mapping[int, str]
    ) -> None:
        """Ask for it. ``spared``: pids that rules save from what moves a whole cgroup, and why."""
        is_cgroup = target.kind == "cgroup"
        if is_cgroup and self._root is None:
            self._results.add(StepResult(decision_id, IMPOSSIBLE, NO_CGROUPS))
            return
        directory = directory_of(self._root or "", target.name) if is_cgroup else ""
        inode = target.cgroup.inode if is_cgroup and target.cgroup is not None else 0
        if isinstance(step, ReclaimStep):
            amount, until_s = step.amount.resolve_bytes(status.base_bytes), _due(step.timeout_us)
            processes = () if is_cgroup else target.processes
            self._reclaim().take(Take(decision_id, amount, until_s, directory, inode, processes, spared))
        elif isinstance(step, (ThrottleStep, FreezeStep)):
            to = step.to if isinstance(step, ThrottleStep) else 0.0
            pull = Pull(decision_id, target.name, directory, inode, step.at_most_us / SECOND_US, to, spared)
            (self._throttle() if isinstance(step, ThrottleStep) else self._freeze()).pull(pull)
        elif isinstance(step, RestartStep):
            self._prove().prove(decision_id, directory, spared)

    def note(self, decision_id: str, status: str, why: str) -> None:
        """Somebody else has carried it out, or not."""
        self._results.add(StepResult(decision_id, status, why))

    def prepare(self, steps: Iterable[Gentle]) -> None:
        """Start the threads that these steps need: not at the moment when memory is short."""
        starts = {ReclaimStep: self._reclaim, ThrottleStep: self._throttle, FreezeStep: self._freeze}
        starts[RestartStep] = self._prove
        for step in steps:
            if type(step) in starts:
                starts[type(step)]()

    def probe(self, identity: str, probe: Probe, patience_us: int) -> None:
        """Take a little of a cgroup, as long as nobody there stalls for it."""
        if self._root is None:
            self._results.add(StepResult(identity, IMPOSSIBLE, NO_CGROUPS))
            return
        directory = directory_of(self._root, probe.path)
        take = Take(identity, probe.amount_bytes, _due(patience_us), directory, probe.inode, stall_us=probe.stall_us)
        self._reclaim().take(take)

    def let_go(self, decision_id: str, why: str) -> None:
        """It is over: what was changed for it is put back, what is being done for it ends."""
        for holder in (self._throttler, self._freezer):
            if holder is not None:
                holder.let_go(decision_id, why)
        if self._reclaimer is not None:
            self._reclaimer.let_go(decision_id)

    def spare(self, own_pids: frozenset[int]) -> None:
        """Oomd's own processes, when they have changed."""
        for worker in self._workers():
            worker.gate.own_pids = own_pids

    def close(self) -> None:
        """Put everything back and end; no longer than a few seconds are waited for it."""
        end = time.monotonic() + END_S
        if self._reclaimer is not None:
            self._reclaimer.drop_all()
        for worker in self._workers():
            worker.stop(max(0.0, end - time.monotonic()))

    def _workers(self) -> Iterable[Holder | Reclaimer | Prover]:
        workers = (self._freezer, self._throttler, self._reclaimer, self._prover)
        return [worker for worker in workers if worker is not None]

    def _throttle(self) -> Holder:
        if self._throttler is None:
            self._throttler = Holder(Throttle(), self._build_gate, self._proc_fd, self._debts, self._results)
            self._throttler.start()
        return self._throttler

    def _freeze(self) -> Holder:
        if self._freezer is None:
            lever = Freeze(self._proc_fd)
            self._freezer = Holder(lever, self._build_gate, self._proc_fd, self._debts, self._results)
            self._freezer.start()
        return self._freezer

    def _reclaim(self) -> Reclaimer:
        if self._reclaimer is None:
            self._reclaimer = Reclaimer(self._build_gate, self._proc_fd, self._results)
            self._reclaimer.start()
        return self._reclaimer

    def _prove(self) -> Prover:
        if self._prover is None:
            self._prover = Prover(self._build_gate, self._proc_fd, self._results)
            self._prover.start()
        return self._prover


def _due(timeout_us: int) -> float:
    return time.monotonic() + timeout_us / SECOND_US


def open_debts(folder: str, token: str) -> Debts | None:
    """The debts of this runtime directory; None where there is none, or it cannot be used."""
    if not folder or not os.path.isdir(folder):
        return None
    try:
        return Debts(folder, token)
    except OSError:
        return None
