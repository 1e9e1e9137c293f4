"""Who may be killed, who never."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.engine.credit import open_credit
from oomd.engine.eligibility import freeable_bytes, sift
from oomd.engine.preferences import judge
from oomd.model.ruleset import EngineState, Names, Preferences, Refusal
from oomd.model.snapshot import PF_EXITING, PF_KTHREAD
from oomd.model.units import MIB
from tests.fakes.builders import candidate, process, snapshot, status

NOBODY = Preferences()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"pid": 1}, "pid 1 is never killed"),
        ({"flags": PF_KTHREAD}, "is a kernel thread"),
        ({"pid": 55}, "is oomd itself, or started it"),
        ({"state": "Z"}, "is a zombie and owns nothing"),
        ({"flags": PF_EXITING}, "is dying already"),
        ({"kill_pending": True}, "is dying already"),
        ({"state": "X"}, "is dying already"),
        ({"oom_score_adj": -1000}, "has oom_score_adj -1000"),
        ({"out_of_scope": "is outside the tree of 9"}, "is outside the tree of 9"),
        ({"comm": "sshd"}, "is protected by its name sshd"),
        ({"size_mib": 0}, "owns no anonymous memory and no swap"),
    ],
)
def test_reasons(changes: dict[str, Any], why: str) -> None:
    """Each kind of process that may not be killed is rejected with its reason."""
    one = process(**({"size_mib": 100} | changes))
    machine = snapshot(one, own_pids=frozenset({55}))
    candidates, rejected = sift(machine, Preferences(protect=Names(("sshd",))), EngineState())
    assert candidates == ()
    assert [rejection.why for rejection in rejected] == [why]


def test_leader_that_is_dead_while_its_threads_live_may_be_killed() -> None:
    """F15: state Z with threads that live, and PF_EXITING on the leader: neither dead nor dying."""
    one = process(state="Z", num_threads=2, flags=PF_EXITING)
    candidates, _ = sift(snapshot(one), NOBODY, EngineState())
    assert [each.process for each in candidates] == [one]


def test_child_of_kthreadd_pid_is_no_kernel_thread_elsewhere() -> None:
    """In a PID namespace pid 2 and its children are ordinary processes: the flag decides."""
    machine = snapshot(process(2, 600), process(3, 900, ppid=2))
    assert len(sift(machine, NOBODY, EngineState())[0]) == 2


def test_in_flight_and_refused_are_left_out() -> None:
    """Who is being killed, or could not be, is not chosen again."""
    credit = open_credit("1", candidate(7), "level", "kill", status())
    state = EngineState(credits=(credit,), refusals=(Refusal(process(8).id, "may not be signalled"),))
    candidates, rejected = sift(snapshot(process(7), process(8), process(9)), NOBODY, state)
    assert [each.process.id.pid for each in candidates] == [9]
    assert {rejection.why for rejection in rejected} == {"is being killed already", "may not be signalled"}


def test_same_pid_of_another_process_is_not_refused() -> None:
    """F11: a refusal is of a pid and start time, not of a pid."""
    state = EngineState(refusals=(Refusal(process(8, start_ticks=5).id, "no"),))
    candidates, _ = sift(snapshot(process(8, start_ticks=6)), NOBODY, state)
    assert len(candidates) == 1


def test_private_memory_counts_where_it_was_measured() -> None:
    """F17: what smaps_rollup said stands above RssAnon, and never exceeds it."""
    assert freeable_bytes(process(size_mib=100)) == (100 * MIB, "size")
    assert freeable_bytes(replace(process(size_mib=100), private_bytes=30 * MIB)) == (30 * MIB, "private")
    assert freeable_bytes(replace(process(size_mib=100), private_bytes=300 * MIB)) == (100 * MIB, "private")
    assert freeable_bytes(process(size_mib=0, swap_bytes=70 * MIB)) == (70 * MIB, "size")


def test_preferences() -> None:
    """On both lists means avoided."""
    both = Preferences(prefer=Names(("a*",)), avoid=Names(("ab",)))
    assert [judge(process(comm=comm), both).kind for comm in ("ab", "ac", "b")] == ["avoid", "prefer", "normal"]


@given(
    st.lists(
        st.builds(
            process,
            st.integers(1, 60),
            st.integers(0, 100),
            flags=st.sampled_from([0, PF_KTHREAD, PF_EXITING]),
            state=st.sampled_from("RSDZTX"),
            num_threads=st.integers(1, 2),
            oom_score_adj=st.sampled_from([-1000, -1, 0, 1000]),
            out_of_scope=st.sampled_from(["", "elsewhere"]),
            kill_pending=st.booleans(),
            comm=st.sampled_from(["sshd", "x"]),
        ),
        unique_by=lambda each: each.id.pid,
    )
)
def test_never_an_ineligible_candidate_and_nobody_is_lost(processes: list[Any]) -> None:
    """Everybody is a candidate or rejected with a reason, and no candidate is any of those who never may be."""
    machine = snapshot(*processes, own_pids=frozenset({55}))
    candidates, rejected = sift(machine, Preferences(protect=Names(("sshd",))), EngineState())
    assert len(candidates) + len(rejected) == len(processes)
    assert all(rejection.why for rejection in rejected)
    for each in candidates:
        one = each.process
        assert one.id.pid not in (1, 55)
        assert not one.flags & PF_KTHREAD
        assert not one.kill_pending
        assert one.oom_score_adj > -1000
        assert not one.out_of_scope
        assert one.comm != "sshd"
        assert one.size_bytes > 0
        assert one.state != "Z" or one.num_threads > 1
