"""One dry run of the whole way to a kill at the start: everything is imported, compiled and touched once, so that
nothing is read from disk in an OOM.
"""

from __future__ import annotations

from oomd.engine.credit import DEAD, died, open_credit, progressed
from oomd.engine.detection import initial_state, observe
from oomd.engine.pacing import pace
from oomd.engine.preferences import prepare
from oomd.engine.selection import select, wanted_cgroups, where_memory_is
from oomd.model.decision import KILL, NO_ACTION, Decision, Detection, KillOutcome
from oomd.model.globs import lies_in_any
from oomd.model.report import plain_decision, plain_outcome
from oomd.model.values import replace
from oomd.parts import clock_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.loop import Loop

MOST_READ = 512
"""Processes, the newest: all that is done with them is done once, in a fifth of the time that 10 000 take."""


def _rehearse_cgroups(loop: Loop) -> None:
    """Open the directories of the cgroups that the rules choose among, and compile their patterns."""
    for ruleset in loop.rules.rulesets:
        alarm = Detection(ruleset.name, fired=True, critical=False, since_us=0)
        if loop.parts.cgroups is not None:
            loop.parts.cgroups.choice(wanted_cgroups(loop.rules, (alarm,)), clock_us())
        lies_in_any(ruleset.choice.among, "/")


def get_ready(loop: Loop, say_so: Callable[[], None], *, first: bool = False) -> None:
    """Rehearse, read everybody, and say that the machine is guarded: before it, where a first look at memory tells that
    nobody will be chosen so soon (reading 10 000 processes takes 0.15 s); after it where danger is near, or ``first``.
    """
    calm = not first and not is_danger_near(loop)
    if calm:
        say_so()
    rehearse(loop)
    # The first scan; what it takes tells how often there may be another, so it follows on the dear reading of leaders.
    loop.parts.table.scan(loop.parts.sampler.read_status(clock_us()), clock_us)
    if not calm:
        say_so()


def is_danger_near(loop: Loop) -> bool:
    """Whether processes are worth a look, by a first look at memory. So it is where that does not tell: of a budget, as
    long as nobody knows who uses it.
    """
    if loop.parts.limit_bytes is not None:
        return True
    cgroups = () if loop.parts.cgroups is None else loop.parts.cgroups.look(clock_us)
    status = loop.parts.sampler.read_status(clock_us())
    detections, state = observe(loop.rules, status, initial_state(loop.rules), cgroups)
    return pace(detections, state, triggers=loop.parts.triggers, alerted=False).warm


def rehearse(loop: Loop) -> Decision:
    """Decide as though the first ruleset had fired, and go through the motions of the report; nobody is touched. Where
    only the largest processes count, some are read: before the first choice everybody is.
    """
    table = loop.parts.table
    table.reader.most = MOST_READ
    try:
        return _rehearse(loop)
    finally:
        table.reader.most, table.ration.scanned_us = None, None


def _rehearse(loop: Loop) -> Decision:
    prepare(loop.rules.preferences)
    status = loop.parts.sampler.read_status(clock_us(), per_cpu_lists=True)
    loop.parts.table.scan(status, clock_us)
    loop.parts.table.look(status, clock_us)
    detections, _ = observe(loop.rules, status, initial_state(loop.rules))
    if not detections:
        return Decision(NO_ACTION, "no rule is in force", status)
    forced = (
        Detection(loop.rules.rulesets[0].name, fired=True, critical=True, since_us=status.time_us),
        *detections[1:],
    )
    decision = select(loop.rules, loop.parts.table.snapshot(status, clock_us()), forced, loop.state)
    _rehearse_cgroups(loop)
    loop.rehearse(status)
    plain_decision(decision)
    where_memory_is(status)
    if decision.target is not None:
        credit = died(open_credit("0", decision.target, decision.ruleset, KILL, status), status.time_us)
        progressed((replace(credit, phase=DEAD),), status)
        plain_outcome(KillOutcome("0", decision.target.process, "dry_run"))
    return decision
