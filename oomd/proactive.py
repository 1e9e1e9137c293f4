"""Proactive reclaim under way: looks when it is due, hands what was decided to the thread that reclaims, and tells once
in a while what it brought. Decides nothing (:mod:`oomd.engine.proactive`), and stops as soon as there is an alarm.
"""

from __future__ import annotations

from oomd.engine.proactive import postponed, probe, wants_of_probing
from oomd.model.proactive import ProbingState
from oomd.model.units import SECOND_US

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.kill.steps import Steps
    from oomd.model.decision import Detection, StepResult
    from oomd.model.proactive import Proactive
    from oomd.model.ruleset import Wants
    from oomd.model.snapshot import Cgroup, MemoryStatus

    Look = Callable[[Wants, int], tuple[Cgroup, ...]]
    """What there is to see of these cgroups now."""

TELL_US = 60 * SECOND_US
"""How often it is told what was taken."""
MARK = "probe "
"""What the ids of its requests begin with."""


class Prober:
    """One instance per daemon; does nothing where no rule asks for it."""

    def __init__(self, tell: Callable[..., object]) -> None:
        self._tell = tell
        self._state = ProbingState()
        self._under_way: set[str] = set()
        self._let: set[str] = set()
        """Those of them that were let go of."""
        self._count = 0
        self._taken: dict[str, int] = {}
        """By cgroup, since it was told last."""
        self._why: dict[str, str] = {}
        self._told_us = 0

    def tend(
        self,
        rule: Proactive | None,
        detections: tuple[Detection, ...],
        status: MemoryStatus,
        look: Look | None,
        steps: Steps | None,
    ) -> None:
        """Another tick. ``steps`` is None in a dry run: then it is told what would be taken."""
        if rule is None or look is None:
            return
        if any(detection.since_us is not None for detection in detections):
            self._state = postponed(rule, self._state, status.time_us)
            self.let_go(steps)
        elif status.time_us >= self._state.due_us and not self._under_way:
            cgroups = look(wants_of_probing(rule), status.time_us)
            probes, self._state = probe(rule, status, cgroups, self._state)
            for each in probes:
                self._count += 1
                identity = f"{MARK}{self._count} {each.path}"
                if steps is None:
                    self._taken[each.path] = self._taken.get(each.path, 0) + each.amount_bytes
                else:
                    self._under_way.add(identity)
                    steps.probe(identity, each, rule.every_us)
        self._tell_in_time(status.time_us, dry_run=steps is None)

    def note(self, result: StepResult) -> bool:
        """A result came; whether it is one of ours."""
        if not result.decision_id.startswith(MARK):
            return False
        self._under_way.discard(result.decision_id)
        self._let.discard(result.decision_id)
        path = result.decision_id.split(" ", 2)[2]
        self._taken[path] = self._taken.get(path, 0) + result.taken_bytes
        if result.why:
            self._why[path] = result.why
        return True

    def let_go(self, steps: Steps | None) -> None:
        """What is under way ends: there is an alarm, or nobody wants it any more."""
        for identity in self._under_way - self._let:
            if steps is not None:
                self._let.add(identity)
                steps.let_go(identity, "")

    def _tell_in_time(self, now_us: int, *, dry_run: bool) -> None:
        if not self._told_us:
            self._told_us = now_us
        if now_us < self._told_us + TELL_US:
            return
        if self._taken:
            cgroups = [
                {"cgroup": path, "taken_bytes": taken, "why": self._why.get(path, "")}
                for path, taken in sorted(self._taken.items())
            ]
            self._tell("proactive", cgroups=cgroups, over_us=now_us - self._told_us, dry_run=dry_run)
        self._taken, self._why, self._told_us = {}, {}, now_us
