"""Decisions with their reasons."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from oomd.config.loader import default_config
from oomd.engine.aftermath import refused
from oomd.engine.credit import KILL, TERM, open_credit
from oomd.engine.selection import fired, may_add, select, wanted_cgroups, wants_everybody, where_memory_is
from oomd.model.decision import Evidence, KillOutcome
from oomd.model.report import plain_decision, plain_outcome
from oomd.model.ruleset import Choice, EngineState, Names, Preferences, Refusal, Rules, RulesetState, Sample
from oomd.model.snapshot import PF_EXITING, PF_KTHREAD, Cgroup, Process
from oomd.model.threshold import Threshold
from oomd.model.units import GIB, MIB
from oomd.policies.metrics import PgscanRate, Resident, Swap
from tests.fakes.builders import alarm, candidate, process, snapshot, status

RULES = default_config().rules
FRESH = EngineState(rulesets=(RulesetState(), RulesetState()))
QUIET = replace(alarm(), fired=False)


def test_nothing_fired_ranks_all_the_same() -> None:
    """Without an alarm nobody dies, and explain still shows who would be first."""
    decision = select(RULES, snapshot(process(5, 10), process(6, 20)), (QUIET,), FRESH)
    assert (decision.action, decision.target) == ("none", None)
    assert [each.process.id.pid for each in decision.ranking] == [6, 5]


def test_no_rules() -> None:
    """Before units have told their settings, where there are no other rules: nothing is done."""
    rules = Rules(())
    decision = select(rules, snapshot(process(7, 100)), (), EngineState())
    assert (decision.action, decision.target) == ("none", None)
    assert wanted_cgroups(rules, ()).cgroups == ()
    assert not wants_everybody(rules, ())


def test_alarm_asks_and_critical_kills() -> None:
    """An alarm brings SIGTERM with the ruleset's grace, the critical level SIGKILL."""
    asked = select(RULES, snapshot(process(6, 20)), (alarm(),), FRESH)
    assert (asked.action, asked.grace_us) == ("term", 5_000_000)
    killed = select(RULES, snapshot(process(6, 20)), (alarm(critical=True),), FRESH)
    assert (killed.action, killed.grace_us) == ("kill", 0)
    assert killed.target is not None
    assert killed.target.process.id.pid == 6
    assert "critical" in killed.reason


def test_ruleset_without_grace_kills_at_once() -> None:
    """A ladder of one step."""
    rules = replace(RULES, rulesets=(replace(RULES.rulesets[0], grace_us=0), RULES.rulesets[1]))
    assert select(rules, snapshot(process(6, 20)), (alarm(),), FRESH).action == "kill"


def test_critical_alarm_comes_first() -> None:
    """Of several alarms the critical one decides."""
    detections = (alarm(), alarm(ruleset="stall", critical=True))
    chosen = fired(detections)
    assert chosen is not None
    assert chosen.ruleset == "stall"
    assert fired((QUIET,)) is None


def test_one_kill_at_a_time_unless_critical() -> None:
    """F16: while one victim's memory is coming back nobody else is asked; at the critical level the next dies."""
    state = replace(FRESH, credits=(open_credit("1", candidate(7, 50), "level", TERM, status(), 5_000_000),))
    machine = snapshot(process(7, 50), process(8, 40))
    waiting = select(RULES, machine, (alarm(),), state)
    assert (waiting.action, waiting.reason) == ("none", "waiting for what p7 (7) gives back")
    second = select(RULES, machine, (alarm(critical=True),), state)
    assert second.target is not None
    assert second.target.process.id.pid == 8


def test_process_that_is_dying_by_another_hand_is_waited_for() -> None:
    """A big process that somebody else has killed gives its memory back soon: nobody else dies; a small one is not
    waited for.
    """
    big = replace(process(7, 500), kill_pending=True)
    waiting = select(RULES, snapshot(big, process(8, 400)), (alarm(critical=True),), FRESH)
    assert waiting.action == "none"
    assert waiting.target is not None
    assert waiting.target.process.id.pid == 7
    small = replace(process(7, 5), kill_pending=True)
    assert select(RULES, snapshot(small, process(8, 400)), (alarm(critical=True),), FRESH).action == "kill"
    known = replace(FRESH, refusals=(Refusal(big.id, "was killed and does not die"),))
    assert select(RULES, snapshot(big, process(8, 400)), (alarm(critical=True),), known).action == "kill"
    ours = replace(FRESH, credits=(open_credit("1", candidate(7), "level", KILL, status()),))
    assert select(RULES, snapshot(big, process(8, 400)), (alarm(critical=True),), ours).action == "kill"


def test_nobody_left_is_told() -> None:
    """With nobody who may be killed the decision says so, and why each is spared."""
    decision = select(RULES, snapshot(process(1), process(9, comm="sshd", uid=0)), (alarm(critical=True),), FRESH)
    assert decision.action == "notify"
    assert [rejection.why for rejection in decision.rejected] == [
        "pid 1 is never killed",
        "is protected by its name sshd*",
    ]


def test_rest_after_futile_kills() -> None:
    """While it rests nothing is done, and it says for how long."""
    state = replace(FRESH, resting_until_us=status().time_us + 7_000_000)
    decision = select(RULES, snapshot(process()), (alarm(critical=True),), state)
    assert decision.action == "none"
    assert "resting for 7s more" in decision.reason


def test_where_the_memory_is() -> None:
    """Where killing does not help, it says what holds the memory, largest first."""
    full = status(shmem_bytes=6 * GIB, slab_unreclaimable_bytes=GIB, anon_bytes=300 * MIB)
    assert (
        where_memory_is(full) == "6.0 GiB shared memory and tmpfs, 1.0 GiB unreclaimable slab, 300 MiB anonymous memory"
    )
    assert where_memory_is(status(anon_bytes=0)) == "nowhere that oomd can see"


def test_wire_form_has_every_key_of_the_contract() -> None:
    """explain and every decision event: the keys that readers rely on, bounded lists, plain values only."""
    machine = snapshot(
        *(process(pid, pid) for pid in range(2, 60)),
        *(process(pid, 900, comm="sshd", uid=0) for pid in range(100, 160)),
    )
    plain = plain_decision(select(RULES, machine, (alarm(),), FRESH))
    assert set(plain) == {"version", "status", "detections", "decision", "candidates", "ranking", "rejected"}
    assert plain["candidates"] == {"ranked": 58, "rejected": 60}
    keys = {"action", "ruleset", "reason", "target", "pids", "processes", "step", "step_us"}
    assert set(plain["decision"]) == keys
    assert {"kind", "pid", "cgroup", "comm"} <= set(plain["decision"]["target"])
    assert {"pid", "cgroup", "comm", "score", "freeable_bytes", "preference"} <= set(plain["ranking"][0])
    assert {"pid", "cgroup", "comm", "why"} <= set(plain["rejected"][0])
    assert (len(plain["ranking"]), len(plain["rejected"])) == (10, 20)
    assert plain["decision"]["pids"] == [59]
    outcome = plain_outcome(KillOutcome("1", process(), "killed"))
    assert {
        "status",
        "ruleset",
        "signal",
        "signal_to_death_us",
        "signal_to_memory_us",
        "returned_bytes",
        "reap",
        "hindrances",
    } <= set(outcome)


def test_no_two_kill_for_the_same_shortage() -> None:
    """While a killed victim's memory is to come, a critical alarm of any ruleset waits unless its evidence counted that
    memory; a victim that was only asked to go does not stop it.
    """
    blind = Evidence("zram", holds=True, text="")
    seeing = Evidence("memory_available", holds=True, text="", after_credit=True)
    killed = replace(FRESH, credits=(open_credit("1", candidate(7, 50), "level", KILL, status()),))
    asked = replace(FRESH, credits=(open_credit("1", candidate(7, 50), "level", TERM, status(), 5_000_000),))
    critical = alarm(critical=True, ruleset="stall")
    assert not may_add(replace(critical, evidence=(blind,)), killed)
    assert may_add(replace(critical, evidence=(blind, seeing)), killed)
    assert may_add(replace(critical, evidence=(blind,)), asked)
    assert not may_add(replace(alarm(), evidence=(seeing,)), asked)
    assert may_add(replace(alarm(), evidence=(blind,)), FRESH)
    decision = select(RULES, snapshot(process(8, 40)), (replace(critical, evidence=(blind,)),), killed)
    assert (decision.action, decision.reason) == ("none", "waiting for what p7 (7) gives back")


def test_set_of_processes_in_the_wire_form() -> None:
    """A cgroup that dies as one: its kind, its path, everybody who dies."""
    rules = replace(RULES, rulesets=(replace(RULES.rulesets[0], choice=Choice("cgroup")), RULES.rulesets[1]))
    machine = snapshot(process(8, 40, cgroup="/a"), process(9, 50, cgroup="/a/b"), cgroups=(Cgroup("/a"),))
    decision = select(rules, machine, (alarm(),), FRESH)
    plain = plain_decision(decision)
    assert plain["decision"]["target"] == {
        "kind": "cgroup",
        "name": "/a",
        "cgroup": "/a",
        "pid": 9,
        "start_ticks": 1009,
        "comm": "p9",
        "uid": 1000,
    }
    assert plain["decision"]["pids"] == [9, 8]
    assert "cgroup /a with 2 processes gives back 90 MiB" in decision.reason
    assert wanted_cgroups(rules, (alarm(),)).cgroups == ("/*",)
    assert wants_everybody(rules, (alarm(),))


def test_default_rules_ask_for_leaders_alone() -> None:
    """No cgroup is read for them, and nobody but the leaders; an order that is not by size needs everybody."""
    assert wanted_cgroups(RULES, (alarm(),)).cgroups == ()
    assert not wants_everybody(RULES, (alarm(),))
    other = replace(RULES, rulesets=(replace(RULES.rulesets[0], policy=Resident()), RULES.rulesets[1]))
    assert wants_everybody(other, (alarm(),))


def test_floors_relax_step_by_step() -> None:
    """An alarm that is confirmed has a victim as long as one is allowed at all, each of them refused in its turn: who
    is preferred, if that is worth it; the others; those below the rule's own floor (little swap); who is preferred and
    hardly worth it stands among them; who is avoided; who is marked to be omitted, where that is the last resort; and
    where no set may be taken, single processes in the same order. Only then it is told that nobody is left.
    """
    crowd = (
        process(10, 50, comm="pet", swap_bytes=50 * MIB, session=1),
        process(11, 400, swap_bytes=90 * MIB, session=1),
        process(12, 300, swap_bytes=1 * MIB, session=2),
        process(13, 1, comm="pet", session=2),
        process(14, 900, comm="Xorg", swap_bytes=90 * MIB, session=3),
        process(15, 900, swap_bytes=90 * MIB, session=3, marks=(("user.oomd_omit", "1"),), cgroup_uid=0, cgroup="/a"),
        process(16, 900, comm="vital", swap_bytes=90 * MIB, session=4),
    )
    preferences = Preferences(Names(("vital",)), prefer=Names(("pet",)), avoid=Names(("Xorg",)), omit="last_resort")
    ruleset = replace(
        RULES.rulesets[0], policy=Swap(Threshold(share=0.05)), choice=Choice("session", most=1), grace_us=0
    )
    rules = Rules((ruleset,), preferences)
    machine = snapshot(*crowd, status=status(swap_total_bytes=400 * MIB, swap_free_bytes=0))
    state, order, notes = EngineState(rulesets=(RulesetState(),)), [], set()
    while (decision := select(rules, machine, (alarm(),), state)).target is not None:
        order.append(decision.target.process.id.pid)
        notes.add(decision.reason.rpartition("; ")[2])
        state = refused(state, decision.target.process.id, "may not be signalled by us (EPERM)")
    assert order == [10, 11, 12, 13, 14, 15]
    assert notes == {"nothing may be taken at level session, so one process is"}
    assert (decision.action, decision.reason) == ("notify", "level: nobody may be killed")
    why = {each.process.id.pid: each.why for each in decision.rejected if each.kind == "process"}
    assert {why[pid] for pid in order} == {"may not be signalled by us (EPERM)"}
    assert why[16] == "is protected by its name vital"


CROWDS = st.lists(
    st.builds(
        process,
        st.sampled_from([7, 6, 5, 1, *range(8, 24)]),
        st.integers(0, 300),
        comm=st.sampled_from(["sshd", "vital", "x", "y"]),
        uid=st.sampled_from([0, 1000]),
        flags=st.sampled_from([0, 0, 0, PF_KTHREAD, PF_EXITING]),
        state=st.sampled_from("SSSZD"),
        num_threads=st.integers(1, 2),
        kill_pending=st.sampled_from([False, False, True]),
        oom_score_adj=st.sampled_from([-1000, -999, 0, 1000]),
        out_of_scope=st.sampled_from(["", "", "is outside"]),
        cgroup=st.sampled_from(["/a", "/a/b", "/c"]),
        marks=st.sampled_from([(), (), (("user.oomd_omit", "1"),), (("user.oomd_avoid", "1"),)]),
        cgroup_uid=st.sampled_from([0, 1000]),
        session=st.integers(1, 3),
        pgrp=st.integers(1, 3),
    ),
    unique_by=lambda each: each.id.pid,
    max_size=16,
)


@given(CROWDS, st.sampled_from(["process", "group", "session", "cgroup", "process_in"]), st.booleans(), st.booleans())
def test_never_an_ineligible_victim(crowd: list[Process], level: str, critical: bool, last_resort: bool) -> None:
    """Whatever the level and the alarm: not the first process, no kernel thread, not oomd, nobody dead, dying, out of
    scope, with oom_score_adj -1000, protected by his name, marked by root to be omitted (unless that is the last
    resort), under way or refused before; and whoever goes with others is none of those either, nor whoever would go
    next.
    """
    preferences = replace(
        RULES.preferences, protect=Names(("vital",)), omit="last_resort" if last_resort else RULES.preferences.omit
    )
    ruleset = replace(RULES.rulesets[0], choice=Choice(level))
    rules = Rules((ruleset, RULES.rulesets[1]), preferences)
    machine = snapshot(*crowd, own_pids=frozenset({5}), cgroups=(Cgroup("/a"), Cgroup("/a/b"), Cgroup("/c")))
    under_way = open_credit("1", candidate(6), "level", TERM, status(), 5_000_000)
    state = replace(FRESH, credits=(under_way,), refusals=(Refusal(process(7).id, "no"),))
    decision = select(rules, machine, (alarm(critical=critical),), state)
    acts = decision.target is not None and decision.action != "none"
    taken = [decision.target, *decision.ranking] if acts and decision.target is not None else [*decision.ranking]
    for victim in (member for each in taken for member in each.processes):
        assert victim.id.pid not in (1, 5, 6, 7)
        assert not victim.is_kernel_thread
        assert not victim.is_dead
        assert not victim.is_dying
        assert not victim.out_of_scope
        assert victim.oom_score_adj > -1000
        assert victim.comm != "vital"
        omitted = dict(victim.marks).get("user.oomd_omit") and victim.cgroup_uid == 0
        assert last_resort or not omitted


def test_rates_are_told_from_the_engines_past() -> None:
    """The policy sees the cgroups as they were some seconds ago, and not those of this very moment."""
    ruleset = replace(RULES.rulesets[0], policy=PgscanRate())
    rules = replace(RULES, rulesets=(ruleset, RULES.rulesets[1]))

    def at(time_us: int, fast: int) -> tuple[Cgroup, ...]:
        return (Cgroup("/a", time_us=time_us, pgscan=fast), Cgroup("/b", time_us=time_us, pgscan=10))

    now = status(time_us=9_000_000)
    history = tuple(Sample(time, 0, 0, None, at(time, time // 1000)) for time in (1_000_000, 9_000_000))
    machine = snapshot(process(8, 4, cgroup="/a"), process(9, 50, cgroup="/b"), cgroups=at(9_000_000, 9000), status=now)
    decision = select(rules, machine, (alarm(),), replace(FRESH, history=history))
    assert [each.process.id.pid for each in decision.ranking] == [8, 9]
    assert decision.ranking[0].score == 1000
