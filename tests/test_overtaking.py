"""Kills of those who overtook the victim that was foreseen, on real children of the test; a fake procfs tells where
memory stands.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from oomd.config.loader import load_config
from oomd.engine.detection import initial_state
from oomd.engine.selection import decide, order_of
from oomd.kill.warrant import Refused
from oomd.model.config import Config
from oomd.model.decision import KILL
from oomd.model.ruleset import Rules, Ruleset
from oomd.model.units import MIB
from oomd.monitor.sharing import SharingMeter
from oomd.overtaking import FRESH_SHARE, Overtaking
from oomd.policies.freeable import NEAR, Freeable
from oomd.search import Search
from tests import test_foresight
from tests.ends import until_end
from tests.fakes.builders import alarm
from tests.integration.way_to_a_kill import still
from tests.kernel.children import go_on, said
from tests.monitor.test_equality import SIZES, Machine
from tests.test_foresight import RULES, ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.decision import Decision
    from tests.test_foresight import Rig

rig, ordinary = test_foresight.rig, test_foresight.ordinary


def prepare(rig: Rig) -> None:
    """Until a decision stands; whom others on this machine fork from then on is no affair of a test."""
    rig.prepare()
    rig.loop.parts.table._newcomers._loadavg = until_end(still("/proc/loadavg", single_record=True))
    rig.tick()
    rig.prepare()


def test_one_that_leapt_past_the_victim_dies_in_its_place(rig: Rig, ordinary: Callable[[], int]) -> None:
    """What grew since cannot be the victim's: it is found whose it is."""
    big, other = rig.hold("big", 90), rig.hold("other", 10, then="more = hold(300)")
    prepare(rig)
    go_on(other)
    said(other)
    rig.grown(300)
    told = rig.strike()
    assert (told["decision"]["target"]["comm"], ordinary()) == ("other", 0)
    assert ended(other) == -signal.SIGKILL
    assert big.poll() is None


def test_one_of_those_in_sight_that_took_it_is_seen(rig: Rig, ordinary: Callable[[], int]) -> None:
    """Another one who leads has grown, by no more than both own."""
    big, other = rig.hold("big", 90), rig.hold("other", 70, then="more = hold(30)")
    prepare(rig)
    go_on(other)
    said(other)
    rig.grown(30)
    told = rig.strike()
    assert (told["decision"]["target"]["comm"], ordinary()) == ("other", 0)
    assert ended(other) == -signal.SIGKILL
    assert big.poll() is None


def test_a_newcomer_that_is_larger_dies(rig: Rig, ordinary: Callable[[], int]) -> None:
    """It was not there when it was decided."""
    rig.hold("big", 60)
    rig.prepare()
    new = rig.hold("new", 150)
    told = rig.strike()
    assert (told["decision"]["target"]["comm"], ordinary()) == ("new", 0)
    assert ended(new) == -signal.SIGKILL


def test_one_that_changed_its_name_is_judged_anew(rig: Rig, ordinary: Callable[[], int]) -> None:
    """Protection goes by names: who executed another program meanwhile may be spared."""
    big, small = rig.hold("big", 90, then="be('sshd')"), rig.hold("small", 60)
    prepare(rig)
    go_on(big)
    said(big)
    told = rig.strike()
    assert (told["decision"]["target"]["comm"], ordinary()) == ("small" if os.geteuid() == 0 else "sshd", 0)
    assert ended(small if os.geteuid() == 0 else big) == -signal.SIGKILL


def test_one_that_is_gone(rig: Rig, ordinary: Callable[[], int]) -> None:
    """The next one dies."""
    big, second = rig.hold("big", 90), rig.hold("second", 60)
    prepare(rig)
    big.kill()
    big.wait()
    told = rig.strike()
    assert (told["decision"]["target"]["comm"], ordinary()) == ("second", 0)
    assert ended(second) == -signal.SIGKILL


def test_one_that_gave_its_memory_back(rig: Rig, ordinary: Callable[[], int]) -> None:
    """It is no longer the largest."""
    big, second = rig.hold("big", 90, then="del held"), rig.hold("second", 60)
    prepare(rig)
    go_on(big)
    said(big)
    told = rig.strike()
    assert (told["decision"]["target"]["comm"], ordinary()) == ("second", 0)
    assert ended(second) == -signal.SIGKILL
    assert big.poll() is None


def test_the_next_one_may_have_shrunk_as_well(rig: Rig) -> None:
    """Nothing has grown, so nobody is read until he is chosen: the ordinary way decides among what is left."""
    big, second = rig.hold("big", 90), rig.hold("second", 60, then="del held")
    third = rig.hold("third", 50)
    prepare(rig)
    big.kill()
    big.wait()
    go_on(second)
    said(second)
    told = rig.strike()
    assert told["decision"]["target"]["comm"] == "third"
    assert ended(third) == -signal.SIGKILL
    assert second.poll() is None


def test_one_that_nobody_watched_is_sought(
    rig: Rig, ordinary: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The growth is nobody's who leads: everybody else is read until it is known whose, and that counts as a scan."""
    monkeypatch.setattr("oomd.monitor.podium.LEADERS", 1)
    big, other = rig.hold("big", 90), rig.hold("other", 10, then="more = hold(300)")
    prepare(rig)
    assert [row.pid for row in rig.loop.parts.table.leaders if row.pid == other.pid] == []
    go_on(other)
    said(other)
    rig.grown(300)
    told = rig.strike()
    assert (told["decision"]["target"]["comm"], ordinary(), told["times"]["scans"]) == ("other", 0, 1)
    assert ended(other) == -signal.SIGKILL
    assert big.poll() is None
    assert [each["comm"] for each in told["ranking"][:2]] == ["other", "big"]


@pytest.mark.parametrize("why", ["avoid: [{name: other}]", "protect: [{name: other}]"])
def test_one_that_nobody_watched_is_judged_as_anybody(rig: Rig, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """However much it took, it is spared where the preferences say so."""
    monkeypatch.setattr("oomd.monitor.podium.LEADERS", 1)
    config = load_config("x", text=f"{RULES}{why}\n".encode())
    assert isinstance(config, Config)
    rig.loop.act.rules = config.rules
    rig.loop.search.judge_by(config.rules)
    big, other = rig.hold("big", 90), rig.hold("other", 10, then="more = hold(300)")
    prepare(rig)
    go_on(other)
    said(other)
    rig.grown(300)
    assert rig.strike()["decision"]["target"]["comm"] == "big"
    assert ended(big) == -signal.SIGKILL
    assert other.poll() is None


def test_one_in_a_pod_is_judged_with_all_others(rig: Rig) -> None:
    """It moves them, or they move it: not by its size alone."""
    rig.hold("big", 90)
    prepare(rig)
    overtaking, snapshot = rig.loop._foresight._overtaking, rig.loop._foresight._snapshot
    assert snapshot is not None
    row = rig.loop.parts.table.leaders[0]
    del overtaking._known[row.pid]
    assert overtaking._judged(row, snapshot, rig.loop.state) is not None
    row.cgroup = "/kubepods/besteffort/pod12345678-1234-1234-1234-123456789abc/0123"
    assert overtaking._judged(row, snapshot, rig.loop.state) is None


def test_whose_pid_was_another_ones_is_judged_anew(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found of that one says nothing of this one, whom somebody may protect."""
    rig.hold("big", 90)
    rig.hold("other", 60)
    prepare(rig)
    overtaking, snapshot = rig.loop._foresight._overtaking, rig.loop._foresight._snapshot
    reflex = rig.loop._foresight._reflexes[0]
    assert snapshot is not None
    row, other = rig.loop.parts.table.leaders[:2]
    monkeypatch.setattr(overtaking, "_judged", lambda row, snapshot, state: None)
    for changed in (row, other):
        assert overtaking._clear(reflex.decision, snapshot, (changed,), rig.loop.state) is not None
        with monkeypatch.context() as patch:
            patch.setitem(overtaking._known, changed.pid, changed.start_ticks - 1)
            assert overtaking._clear(reflex.decision, snapshot, (changed,), rig.loop.state) is None


def test_the_report_ranks_both(rig: Rig) -> None:
    """With the sizes of now, and the reason names who died."""
    rig.hold("big", 90)
    other = rig.hold("other", 60, then="more = hold(60)")
    prepare(rig)
    go_on(other)
    said(other)
    rig.grown(60)
    told = rig.strike()
    assert [each["comm"] for each in told["ranking"][:2]] == ["other", "big"]
    assert "other" in told["decision"]["reason"]
    assert "50 MiB available" in told["decision"]["reason"]
    (credit,) = rig.loop.state.credits
    assert credit.process.id.pid == other.pid
    assert ended(other) == -signal.SIGKILL


def test_what_none_of_them_took_is_left_to_the_ordinary_way(rig: Rig, ordinary: Callable[[], int]) -> None:
    """So much was allocated that anybody could be larger, and nobody is: that is proved by reading everybody."""
    big = rig.hold("big", 90)
    prepare(rig)
    rig.grown(500)
    told = rig.strike()
    assert told["decision"]["target"]["comm"] == "big"
    assert told["times"]["scans"] > 0
    assert ended(big) == -signal.SIGKILL


def test_one_that_may_not_be_signalled(rig: Rig, ordinary: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """No warrant for the overtaker: the ordinary way says so, and takes the next."""
    big, other = rig.hold("big", 90), rig.hold("other", 60, then="more = hold(60)")
    prepare(rig)
    go_on(other)
    said(other)
    rig.grown(60)
    gate = rig.loop.parts.executor._gate
    assert gate is not None
    real = gate.grant

    def grant(process: Any, stat_fd: int = -1) -> Any:
        if process.id.pid == other.pid:
            raise Refused("is not to be touched")
        return real(process, stat_fd)

    monkeypatch.setattr(gate, "grant", grant)
    told = rig.strike()
    assert (told["decision"]["target"]["comm"], ordinary()) == ("big", 1)
    assert ended(big) == -signal.SIGKILL
    assert other.poll() is None


class Settled(Search):
    """Where nothing is to be waited for."""

    def is_settled(self, decision: Decision) -> bool:  # noqa: ARG002 - as the real one
        return True


BY_SIZE = Rules((Ruleset("x", (), (), Freeable()),))


class Overtaken(Machine):
    """Between the decision that was made in advance and its moment anything may happen."""

    @rule(data=st.data(), read_before=st.booleans())
    def overtake(self, data: st.DataObject, read_before: bool) -> None:
        """Whoever is found, nobody owns more than he by more than a near-tie and what is overlooked."""
        self.look(sizes_only=True)
        snapshot = self.table.snapshot(self.status(), self.now_us)
        state, detections = initial_state(BY_SIZE), (alarm(critical=True, ruleset="x"),)
        order = order_of(BY_SIZE, BY_SIZE.rulesets[0], snapshot, state)
        decision = decide(BY_SIZE.rulesets[0], snapshot, detections, state, order)
        if decision.action != KILL:
            return
        search = Settled(self.table, SharingMeter(self.proc_fd), None, None, lambda: self.now_us)
        overtaking = Overtaking(self.table, search)
        overtaking.prepare(BY_SIZE, snapshot, (decision,))
        for what in data.draw(st.lists(st.sampled_from(self.events()), max_size=3)):
            what(data)
        self.count()
        now = self.status()
        overtaking.swapped = now.swap_free_bytes < now.swap_total_bytes
        reading = None
        if read_before and self.table.find_newcomers() is not None:
            self.table.rest_bound_bytes()
            reading = overtaking.read_sizes(decision)
        found = overtaking.find(decision, snapshot, state, reading)
        if found is None:
            return
        sizes = {pid: each.rss_anon + each.swap for pid, each in self.tree._processes.items() if pid != 1}
        assert max(sizes.values()) * NEAR <= sizes[found.row.pid] * (1 + 1 / FRESH_SHARE)
        full = overtaking.in_full(found, state)
        assert full.decision.target == found.decision.target
        assert {each.process.id for each in full.decision.ranking} >= {full.row.id}

    def events(self) -> list[Any]:
        """What may happen."""

        def leader_grows(data: st.DataObject) -> None:
            self.grow_one(data.draw(st.sampled_from(sorted(self.table.rows))), data.draw(SIZES) * MIB)

        def gone(data: st.DataObject) -> None:
            if len(self.tree._processes) > 3:
                self.tree.remove_process(self.pick(data))

        return [
            leader_grows,
            leader_grows,
            gone,
            lambda data: Machine.leap(self, data),
            lambda data: Machine.fork(self, data, 1),
            lambda data: Machine.shrink(self, data, data.draw(st.sampled_from([1, 2, 4]))),
            lambda data: Machine.execute(self, data, data.draw(SIZES)),
            Machine.swap_out.__get__(self),
        ]


Overtaken.TestCase.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestOvertaken = Overtaken.TestCase
