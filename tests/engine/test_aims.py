"""Whom a gentle step is for, and who is spared from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from oomd.engine.aims import aim, needs_everybody, unit_of, wanted_of_step
from oomd.engine.selection import looks_at_cgroups, select, wanted_cgroups, wants_everybody
from oomd.model.decision import Candidate, Decision
from oomd.model.ruleset import Choice, EngineState, Names, Preferences, Rules, Ruleset, RulesetState
from oomd.model.snapshot import Cgroup, Process, Snapshot
from oomd.model.steps import FreezeStep, NotifyStep, ReclaimStep, RestartStep, ThrottleStep
from oomd.model.units import GIB, MIB
from oomd.policies.freeable import Freeable
from oomd.policies.metrics import Resident
from tests.fakes.builders import alarm, process, snapshot, status

if TYPE_CHECKING:
    from oomd.model.steps import Gentle

WEB = "/system.slice/web.service"
JOB = "/system.slice/job.service"
APP = "/user.slice/user-1000.slice/user@1000.service/app.slice/app-a.scope"
FRESH = EngineState(rulesets=(RulesetState(),))
SWAP = status(swap_total_bytes=GIB, swap_free_bytes=GIB)


def machine(**changes: Any) -> Snapshot:
    """A large web service, a smaller job, somebody's app."""
    return snapshot(
        process(10, 400, comm="web", cgroup=WEB, uid=33),
        process(11, 100, comm="worker", cgroup=f"{WEB}/workers", uid=33),
        process(20, 300, comm="job", cgroup=JOB, uid=0),
        process(30, 200, comm="app", cgroup=APP),
        **changes,
    )


def decide(step: Gentle, shown: Snapshot, preferences: Preferences | None = None, **changes: Any) -> Decision:
    """What a ruleset with this step decides when its alarm holds."""
    ruleset = replace(Ruleset("level", (), policy=Freeable(), steps=(step,)), **changes)
    rules = Rules((ruleset,), preferences or Preferences())
    return select(rules, shown, (alarm(),), FRESH)


def names(decision: Decision) -> list[str]:
    """Everybody whom the step would move."""
    assert decision.target is not None
    return sorted(each.comm for each in decision.target.processes)


def test_the_cgroup_of_whoever_is_chosen() -> None:
    """With all that are in it and below, each once."""
    decision = decide(ThrottleStep(), machine())
    assert decision.target is not None
    assert (decision.action, decision.step, decision.target.kind, decision.target.name) == (
        "throttle",
        0,
        "cgroup",
        WEB,
    )
    assert names(decision) == ["web", "worker"]
    assert "throttle for cgroup /system.slice/web.service with 2 processes" in decision.reason


def test_the_cgroup_that_is_chosen() -> None:
    """At level cgroup it is the ruleset's own choice, inode and all."""
    cgroups = (Cgroup("/system.slice", 1), Cgroup(WEB, 5, anon_bytes=400 * MIB), Cgroup(JOB, 6, anon_bytes=900 * MIB))
    shown = machine(cgroups=cgroups)
    decision = decide(FreezeStep(), shown, choice=Choice("cgroup", ("/system.slice/*",)), policy=Freeable())
    assert decision.target is not None
    assert (decision.target.name, decision.target.cgroup) == (JOB, cgroups[2])


def test_the_largest_of_those_that_are_named() -> None:
    """``of`` names them; the one that uses most is throttled, the one with most inactive memory gives it up."""
    cgroups = (
        Cgroup(WEB, 5, current_bytes=500 * MIB, inactive_file_bytes=100 * MIB, inactive_anon_bytes=0),
        Cgroup(JOB, 6, current_bytes=300 * MIB, inactive_file_bytes=0, inactive_anon_bytes=200 * MIB),
        Cgroup("/system.slice/empty.service", 7, current_bytes=900 * MIB),
    )
    shown = machine(cgroups=cgroups)
    throttled = decide(ThrottleStep(of="/system.slice/*"), shown)
    assert throttled.target is not None
    assert throttled.target.name == WEB
    # Without swap only files can be taken.
    taken = decide(ReclaimStep(of="/system.slice/*"), shown)
    assert taken.target is not None
    assert taken.target.name == WEB
    taken = decide(ReclaimStep(of="/system.slice/*"), replace(shown, status=SWAP))
    assert taken.target is not None
    assert taken.target.name == JOB
    nothing = decide(ThrottleStep(of="/none/*"), shown)
    assert nothing.target is None
    assert "there is no /none/* with processes" in nothing.reason


def test_a_process_is_swapped_out() -> None:
    """At the level of processes, where there is swap; else nobody can be."""
    decision = decide(ReclaimStep(), machine(status=SWAP))
    assert decision.target is not None
    assert (decision.target.kind, decision.target.process.comm) == ("process", "web")
    without = decide(ReclaimStep(), machine())
    assert without.target is None
    assert "there is no swap" in without.reason


@pytest.mark.parametrize("step", [ThrottleStep(), FreezeStep(), RestartStep()])
def test_one_that_is_protected_saves_its_cgroup(step: Gentle) -> None:
    """The next one in the order is taken, and it is told who saved the first."""
    protect = Preferences(protect=Names(("worker",)))
    decision = decide(step, machine(), protect)
    assert decision.target is not None
    assert decision.target.name == JOB
    why = [each.why for each in decision.rejected if each.name == WEB]
    assert why == ["holds worker (11), which is protected by its name worker"]


def test_being_protected_spares_nobody_the_loss_of_cold_pages() -> None:
    """But oomd itself, and strangers to the scope, do."""
    protect = Preferences(protect=Names(("worker",)))
    cgroups = (Cgroup(WEB, 5, inactive_file_bytes=100 * MIB), Cgroup(JOB, 6, inactive_file_bytes=10 * MIB))
    step = ReclaimStep(of="/system.slice/*")
    decision = decide(step, machine(cgroups=cgroups), protect)
    assert names(decision) == ["web", "worker"]
    decision = decide(step, machine(cgroups=cgroups, own_pids=frozenset({11})))
    assert names(decision) == ["job"]


def test_avoided_ones_are_not_frozen() -> None:
    """They may be slowed down."""
    avoid = Preferences(avoid=Names(("web", "worker")))
    frozen = decide(FreezeStep(), machine(), avoid)
    assert names(frozen) == ["job"]
    only = snapshot(process(10, 400, comm="web", cgroup=WEB))
    assert "which is avoided" in decide(FreezeStep(), only, avoid).reason
    assert names(decide(ThrottleStep(), only, avoid)) == ["web"]


def test_the_dead_save_nobody() -> None:
    """A zombie, somebody who is dying, and one that owns nothing are no reason."""
    shown = snapshot(
        process(10, 400, comm="web", cgroup=WEB),
        process(11, 0, comm="idle", cgroup=WEB),
        process(12, 0, comm="zombie", cgroup=WEB, state="Z"),
        process(13, 10, comm="dying", cgroup=WEB, kill_pending=True),
    )
    assert names(decide(FreezeStep(), shown)) == ["dying", "idle", "web"]


def test_a_service_is_restarted() -> None:
    """By name, with and without its kind; the one of whoever is chosen; no user's unit, and none that does not run."""
    named = decide(RestartStep("job"), machine())
    assert named.target is not None
    assert (named.target.name, unit_of(named.target.name)) == (JOB, "job.service")
    assert decide(RestartStep("job.service"), machine()).target == named.target
    chosen = decide(RestartStep(), machine())
    assert names(chosen) == ["web", "worker"]
    assert "gone.service is not running" in decide(RestartStep("gone"), machine()).reason
    app = snapshot(process(30, 200, comm="app", cgroup=APP))
    assert "belongs to no service" in decide(RestartStep(), app).reason
    assert unit_of(APP) == unit_of(f"{WEB}/workers") == ""


def test_telling_names_the_foremost() -> None:
    """Nobody is touched, so nobody is needed."""
    assert "foremost is web (10)" in decide(NotifyStep(), machine()).reason
    nobody = decide(NotifyStep(), snapshot())
    assert (nobody.action, nobody.target) == ("notify", None)


def test_whoever_lies_in_the_root() -> None:
    """The root is no cgroup that anybody may throttle."""
    shown = snapshot(process(10, 400, cgroup="/"), process(11, 300, cgroup=""))
    decision = decide(ThrottleStep(), shown)
    assert decision.target is None
    assert "in no cgroup of its own" in decision.reason


def test_what_must_be_seen() -> None:
    """Everybody, but for telling; and the cgroups that a step names, beside those of the choice."""
    assert not needs_everybody(NotifyStep())
    assert wanted_of_step(RestartStep("job")).cgroups == ()
    ruleset = Ruleset("level", (), policy=Resident(), steps=(NotifyStep(), ReclaimStep(of="/a/*")), last="")
    rules = Rules((replace(ruleset, choice=Choice("cgroup", ("/b/*",))),))
    assert looks_at_cgroups(Rules((ruleset,)))
    second = (replace(alarm(), step=1),)
    assert wanted_cgroups(rules, second).cgroups == ("/b/*", "/a/*")
    assert "memory.stat" in wanted_cgroups(rules, second).files
    assert wants_everybody(Rules((ruleset,)), second)
    assert not wants_everybody(Rules((replace(ruleset, policy=Freeable()),)), (alarm(),))


def test_only_so_many_are_asked() -> None:
    """A ranking without end is not gone through to its end."""
    processes = tuple(process(100 + number, 1, comm="spared", cgroup=f"/{number}") for number in range(200))
    candidates = tuple(Candidate(each, 1, "size", "avoid", 1) for each in processes)
    shown = snapshot(*processes)
    found = aim(FreezeStep(), Ruleset("level", ()), shown, candidates, candidates, ())
    assert found.target is None
    assert len(found.spared) < 100
    assert isinstance(found.spared[0].process, Process)
