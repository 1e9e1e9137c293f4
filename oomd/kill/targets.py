"""Several processes as one victim: a process group, a session, a cgroup.

All of them are under warrant before the first is touched; if one may not be touched, none is. SIGKILL goes to all
before the first is reaped, so that nobody lives on long enough to fork what the others lost; the reaper then takes them
in order of size, and whoever was forked meanwhile follows.
"""

from __future__ import annotations

import os

from oomd.engine.aftermath import with_credit
from oomd.engine.credit import DRY_RUN_US, open_credit
from oomd.engine.eligibility import NOTHING_OWNED
from oomd.kill.warrant import GONE, Refused
from oomd.model.decision import KILL
from oomd.model.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.kill.executor import Executor
    from oomd.model.decision import Candidate, Decision, Warrant
    from oomd.model.ruleset import EngineState
    from oomd.model.snapshot import Process, ProcessId

MOST_ROUNDS = 8
"""Looks for newcomers after a kill. What forks faster than that is caught by the next alarm."""


def with_sharers(decision: Decision, sharers: tuple[Process, ...], most: int) -> Decision:
    """The decision that takes those along who share the victim's memory map. Raises Refused when one of them is spared,
    or they are more than the ``most`` that one action may take: the victim's death would give nothing back.
    """
    target = decision.target
    assert target is not None
    if not sharers:
        return decision
    spared = {each.process.id: each.why for each in decision.rejected if each.why != NOTHING_OWNED}
    for process in sharers:
        if process.id in spared:
            raise Refused(shares_with(process, spared[process.id]), target.process.id)
    if len(sharers) >= most:
        raise Refused(f"shares its memory with {len(sharers)} more, and one action may take {most}", target.process.id)
    return replace(decision, target=replace(target, members=(target.process, *sharers)))


def shares_with(process: Process, why: str) -> str:
    """Why a victim is passed over whose sharer is spared."""
    return f"shares its memory with {process.comm} ({process.id.pid}), which {why}"


def begin_all(
    executor: Executor,
    decision_id: str,
    decision: Decision,
    parts: tuple[Candidate, ...],
    state: EngineState,
    stat_fd_of: Callable[[ProcessId], int],
) -> EngineState:
    """Send the decision's signal to every part (largest first) and open a credit for each.

    Raises Refused, with ``who``, when one of them may not be touched: then nobody was. Those that went meanwhile are
    left out; when all did, that is a refusal too.
    """
    if executor.dry_run:
        for part in parts:
            opened = open_credit(decision_id, part, decision.ruleset, KILL, decision.status, DRY_RUN_US)
            state = with_credit(state, opened)
        return state
    granted = _grant_all(executor, parts, stat_fd_of)
    if not granted:
        raise Refused(GONE, parts[0].process.id)
    killed = decision.action == KILL
    counted = executor.count_ooms(tuple(part.process for part, _ in granted))
    if killed:
        executor.kill_whole(decision, [warrant for _, warrant in granted])
        executor.kill_all([warrant for _, warrant in granted])
    for part, warrant in granted:
        try:
            state = executor.start(decision_id, replace(decision, target=part), warrant, state, signalled=killed)
        except Refused:  # gone between warrant and signal: nothing is expected of it
            pass
    executor.count_kills(counted)
    return state


def sweep(
    executor: Executor,
    decision_id: str,
    decision: Decision,
    state: EngineState,
    late_members: Callable[[EngineState], tuple[Candidate, ...]],
) -> EngineState:
    """Kill those that joined the set while it was being killed, until nobody new appears."""
    for _ in range(MOST_ROUNDS):
        parts = late_members(state)
        if not parts:
            break
        try:
            state = begin_all(executor, decision_id, replace(decision, action=KILL), parts, state, lambda _: -1)
        except Refused:
            break
    return state


def _grant_all(
    executor: Executor, parts: tuple[Candidate, ...], stat_fd_of: Callable[[ProcessId], int]
) -> list[tuple[Candidate, Warrant]]:
    granted: list[tuple[Candidate, Warrant]] = []
    try:
        for part in parts:
            try:
                granted.append((part, executor.grant(part.process, stat_fd_of(part.process.id))))
            except Refused as verdict:
                if str(verdict) != GONE:
                    raise Refused(str(verdict), part.process.id) from verdict
    except BaseException:
        for _, warrant in granted:
            os.close(warrant.pidfd)
        raise
    return granted
