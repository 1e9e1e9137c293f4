"""What is decided in advance is what would be decided."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oomd.config.loader import default_config
from oomd.detectors.pressure import PressureShare
from oomd.detectors.thresholds import MemoryAvailable, SwapFree
from oomd.engine.credit import open_credit
from oomd.engine.detection import initial_state, observe
from oomd.engine.reflex import decided_anew, due, foresee
from oomd.engine.selection import decide, fired, may_add, order_of, select
from oomd.model.decision import KILL, TERM, Decision
from oomd.model.hooks import Hook, Hooks
from oomd.model.ruleset import Choice, EngineState, Names, Pause, Rules, Ruleset
from oomd.model.snapshot import Budget, MemoryStatus, Process, Snapshot
from oomd.model.threshold import Threshold
from oomd.model.units import GIB, MIB, SECOND_US
from oomd.policies.culprit import Culprit
from oomd.policies.freeable import Freeable
from oomd.policies.metrics import Resident
from tests.fakes.builders import alarm, candidate, process, snapshot, status

RULES = default_config().rules
PEOPLE = (process(5, 900), process(6, 700, comm="sshd", uid=0), process(7, 400), process(8, 20))

LIMITS = st.builds(MemoryAvailable, st.builds(Threshold, share=st.sampled_from([0.05, 0.1, 0.5])))
SWAPS = st.builds(SwapFree, st.just(Threshold(share=0.5)), swapless=st.sampled_from(SwapFree.choices["swapless"]))
OTHERS = st.just(PressureShare(0.4))
GROUPS = st.lists(st.lists(LIMITS | SWAPS | OTHERS, min_size=1, max_size=2).map(tuple), max_size=2).map(tuple)
RULESETS = st.builds(
    Ruleset,
    st.just("x"),
    GROUPS,
    GROUPS,
    st.sampled_from([Culprit(), Freeable(), Resident()]),
    st.sampled_from([Choice(), Choice(), Choice(level="group")]),
    st.sampled_from([0, SECOND_US]),
    st.sampled_from([0, SECOND_US]),
    st.sampled_from([0, SECOND_US]),
)
MANY_RULES = st.lists(RULESETS, min_size=1, max_size=3).map(
    lambda rulesets: Rules(tuple(replace(each, name=f"r{place}") for place, each in enumerate(rulesets)))
)
SWAP_SIZES = st.sampled_from([0, GIB])
STEPS = st.lists(
    st.tuples(
        st.integers(0, 80), st.integers(0, 10), st.integers(0, 20), st.integers(0, 3), st.sampled_from([100, 900, 3000])
    ),
    min_size=2,
    max_size=6,
)


def moments(steps: list[tuple[int, int, int, int, int]], swap_bytes: int = GIB) -> list[MemoryStatus]:
    """Statuses one after the other: memory, swap, tmpfs and stall as they come."""
    now, stall, told = 1_000_000, 0, []
    for available, swap, shmem, stalled, pause in steps:
        now += pause * 1000
        stall += stalled * pause * 300
        told.append(
            status(
                time_us=now,
                mem_available_bytes=available * 100 * MIB,
                anon_bytes=8 * GIB - available * 100 * MIB,
                shmem_bytes=shmem * 200 * MIB,
                swap_total_bytes=swap_bytes,
                swap_free_bytes=min(swap_bytes, swap * 100 * MIB),
                psi_full_us=stall,
            )
        )
    return told


def looks_at_more(rules: Rules, name: str) -> bool:
    """Whether the critical level of this rule looks at more than meminfo."""
    ruleset = next(each for each in rules.rulesets if each.name == name)
    return (
        ruleset.policy == Resident()
        or ruleset.choice != Choice()
        or any(isinstance(detector, PressureShare) for group in ruleset.critical for detector in group)
    )


def ordinary(rules: Rules, seen: Snapshot, now: MemoryStatus, state: EngineState) -> Decision | None:
    """What the loop would carry out at this status."""
    detections, state = observe(rules, now, state)
    alarm = fired(detections)
    if alarm is None or now.time_us < state.resting_until_us or not may_add(alarm, state):
        return None
    decision = select(rules, replace(seen, status=now), detections, state)
    return decision if decision.action in (TERM, KILL) else None


@given(MANY_RULES, STEPS, SWAP_SIZES)
def test_both_ways_agree(rules: Rules, steps: list[tuple[int, int, int, int, int]], swap_bytes: int) -> None:
    """Whatever the rules and the past: what the reflex does the ordinary way does as well, to the same process; unless
    another rule, which looks at more, turns critical at the same instant: then whoever was asked to go is killed in the
    same tick.
    """
    *past, now = moments(steps, swap_bytes)
    state = initial_state(rules)
    for moment in past:
        _, state = observe(rules, moment, state)
    seen = snapshot(*PEOPLE, status=past[-1])
    reflexes = foresee(rules, seen, state)
    decided = due(reflexes, now, state, seen)
    if decided is None:
        return
    detections, _ = observe(rules, now, state)
    alarm = fired(detections)
    assert alarm is not None
    if alarm.critical and not any(each.critical and each.decision is decided for each in reflexes):
        assert looks_at_more(rules, alarm.ruleset)
        return
    expected = ordinary(rules, seen, now, state)
    assert expected is not None
    assert expected.target is not None
    assert decided.target is not None
    told = (decided.ruleset, decided.action, decided.grace_us, decided.target.process.id)
    assert told == (expected.ruleset, expected.action, expected.grace_us, expected.target.process.id)


@given(STEPS, SWAP_SIZES)
def test_nothing_that_the_default_level_does_is_missed(
    steps: list[tuple[int, int, int, int, int]], swap_bytes: int
) -> None:
    """Where the level fires, the reflex has it, tmpfs apart."""
    *past, now = moments([(*step[:2], 0, *step[3:]) for step in steps], swap_bytes)
    state = initial_state(RULES)
    for moment in past:
        _, state = observe(RULES, moment, state)
    seen = snapshot(*PEOPLE, status=past[-1])
    expected = ordinary(RULES, seen, now, state)
    decided = due(foresee(RULES, seen, state), now, state, seen)
    if expected is not None and expected.ruleset == "level":
        assert decided is not None
        assert (decided.action, decided.ruleset) == (expected.action, "level")


ANYBODY = st.builds(
    lambda pid, size, swap, rest: process(pid, size, swap_bytes=swap * MIB, **rest),
    st.integers(2, 9),
    st.sampled_from([0, 20, 395, 400, 410, 900]),
    st.sampled_from([0, 0, 50]),
    st.fixed_dictionaries(
        {
            "comm": st.sampled_from(["a", "a", "b", "sshd"]),
            "uid": st.sampled_from([0, 1000]),
            "state": st.sampled_from("SSSSZ"),
            "kill_pending": st.sampled_from([False, False, False, False, True]),
            "oom_score_adj": st.sampled_from([0, 0, 0, -1000, -50, 200]),
            "grown": st.sampled_from([(), (0, 0, 0, 0), (300 * MIB,) * 4, (0, 0, 0, 90 * MIB)]),
            "cgroup": st.sampled_from(
                [
                    "",
                    "",
                    "/system.slice/x.service",
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice",
                ]
            ),
        }
    ),
)
CROWDS = st.lists(ANYBODY, min_size=1, max_size=6, unique_by=lambda each: each.id.pid)


@given(
    CROWDS,
    CROWDS,
    st.sampled_from([Culprit(), Freeable()]),
    st.sampled_from(["b", "sshd", "nobody"]),
    st.sampled_from(["avoid", "prefer"]),
)
def test_who_is_as_he_was_need_not_be_judged_again(
    before: list[Process], changed: list[Process], policy: Freeable | Culprit, named: str, whose: str
) -> None:
    """Whatever became of some of them, and whoever came or went: with the judgements of before of all others the
    decision is the same as from nothing, ranking and all.
    """
    lists: dict[str, Any] = {whose: Names((named,))}
    ruleset = Ruleset("x", (), (), policy)
    rules = Rules((ruleset,), replace(RULES.preferences, **lists))
    state, critical = initial_state(rules), (alarm(critical=True, ruleset="x"),)
    first = snapshot(*before)
    decided = decide(ruleset, first, critical, state, order_of(rules, ruleset, first, state))
    others = [each for each in before if each.id.pid not in {one.id.pid for one in changed}]
    whole = snapshot(*changed, *others)
    expected = decide(ruleset, whole, critical, state, order_of(rules, ruleset, whole, state))
    again = decided_anew(rules, decided, snapshot(*others), tuple(changed), state)
    assert again.ranking == expected.ranking
    assert (again.action, again.target, again.reason) == (expected.action, expected.target, expected.reason)
    assert set(again.rejected) == set(expected.rejected)


def test_only_what_meminfo_tells_is_foreseen() -> None:
    """The default level is, the stall is not; neither under a budget, nor while a kill is under way, nor when there is
    nobody to kill.
    """
    calm, state = snapshot(*PEOPLE), initial_state(RULES)
    assert {reflex.decision.ruleset for reflex in foresee(RULES, calm, state)} == {"level"}
    assert [reflex.critical for reflex in foresee(RULES, calm, state)] == [True, False]
    budget = replace(calm, status=status(budget=Budget(GIB, MIB, "processes")))
    assert foresee(RULES, budget, state) == ()
    busy = replace(state, credits=(open_credit("1", candidate(7), "level", KILL, status()),))
    assert foresee(RULES, calm, busy) == ()
    assert foresee(RULES, snapshot(process(6, 700, comm="sshd", uid=0)), state) == ()


def test_hooks_are_waited_for_by_the_ordinary_way() -> None:
    """Nothing is foreseen for whom a program is run before; one that is only run afterwards hinders nobody."""
    calm, state = snapshot(*PEOPLE), initial_state(RULES)
    hook = Hook(("/bin/true",), 200_000)
    assert foresee(replace(RULES, hooks=Hooks(before=hook)), calm, state) == ()
    assert foresee(replace(RULES, hooks=Hooks(prekill_us=1)), calm, state) == ()
    assert foresee(replace(RULES, hooks=Hooks(after=hook)), calm, state) == foresee(RULES, calm, state)


def test_a_pause_is_foreseen_as_well() -> None:
    """While it holds nobody is chosen in advance."""
    state = replace(initial_state(RULES), pause=Pause(0, 60 * SECOND_US, "why", "who"))
    assert foresee(RULES, snapshot(*PEOPLE), state) == ()


def test_memory_that_went_into_files_kills_nobody() -> None:
    """What the ordinary way blames on tmpfs is left to it."""
    before = status(mem_available_bytes=4 * GIB, anon_bytes=4 * GIB)
    _, state = observe(RULES, before, initial_state(RULES))
    low = status(
        time_us=before.time_us + SECOND_US, mem_available_bytes=150 * MIB, anon_bytes=4 * GIB, shmem_bytes=3800 * MIB
    )
    seen = snapshot(*PEOPLE, status=before)
    reflexes = foresee(RULES, seen, state)
    assert due(reflexes, low, state, seen) is None
    assert due(reflexes, replace(low, shmem_bytes=0), state, seen) is not None
    assert due(reflexes, before, state, seen) is None
