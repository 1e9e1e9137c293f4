"""Memory pressure over a window of our own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oomd.detectors.pressure import PressureShare
from oomd.model.ruleset import Sample, View
from oomd.model.snapshot import Budget, Cgroup, Details
from oomd.model.units import GIB
from tests.fakes.builders import moment, over_time, pressure, status

DETECTOR = PressureShare(above=0.4, over_us=2_000_000)


def view(*samples: tuple[int, int]) -> View:
    """A history of (milliseconds, milliseconds of full stall so far)."""
    history = tuple(Sample(time * 1000, full * 1000 + 500_000, full * 1000) for time, full in samples)
    return View(status(), 4 * GIB, 0, history)


@pytest.mark.parametrize(
    ("samples", "holds"),
    [
        (((0, 0), (2000, 800)), True),
        (((0, 0), (2000, 799)), False),
        (((0, 0), (1000, 800)), True),  # enough for the whole window already
        (((0, 0), (1000, 700)), False),  # 70 % so far, but the window is not full
        (((0, 0),), False),  # nothing fires on the first sample
        (((0, 0), (20_000, 8000)), True),  # the sampler itself was stalled: the share of what passed counts
        (((0, 0), (20_000, 7000)), False),
    ],
)
def test_share_of_the_window(samples: tuple[tuple[int, int], ...], holds: bool) -> None:
    """F4, F5: the stall of the window counts as soon as it suffices, and not before."""
    assert DETECTOR.detect(view(*samples), firing=False).holds is holds


def test_longer_windows_of_others_do_not_thin_ours_out() -> None:
    """The history is as long as the longest window of all rules: ours begins where it should all the same."""
    calm = [(at, 0) for at in range(0, 8001, 100)]
    stalled = [(8000 + at, at) for at in range(100, 2001, 100)]
    assert DETECTOR.detect(view(*calm, *stalled), firing=False).holds
    past = [(at, at) for at in range(0, 8001, 100)]
    over = [(8000 + at, 8000) for at in range(100, 2001, 100)]
    assert not DETECTOR.detect(view(*past, *over), firing=False).holds


def test_evidence_says_how_much_was_seen() -> None:
    """A window that is not full, and one during which nobody looked, are told apart from an ordinary one."""
    assert "(window not full yet: 500ms)" in DETECTOR.detect(view((0, 0), (500, 100)), firing=False).text
    assert "(no look for 20s)" in DETECTOR.detect(view((0, 0), (20_000, 100)), firing=False).text
    ordinary = DETECTOR.detect(view((0, 0), (2000, 100)), firing=False)
    assert ordinary.text == "memory pressure full 5% over 2s, limit 40%"


def test_hysteresis() -> None:
    """An alarm that holds lets go below four fifths of its limit."""
    assert DETECTOR.detect(view((0, 0), (2000, 660)), firing=True).holds
    assert not DETECTOR.detect(view((0, 0), (2000, 660)), firing=False).holds
    assert not DETECTOR.detect(view((0, 0), (2000, 600)), firing=True).holds


def test_some_counts_other_stall() -> None:
    """``some`` looks at the other counter."""
    history = (Sample(0, 0, 0), Sample(2_000_000, 900_000, 0))
    some = PressureShare(above=0.4, kind="some")
    assert some.detect(View(status(), 0, 0, history), firing=False).holds
    assert not DETECTOR.detect(View(status(), 0, 0, history), firing=False).holds


def test_silence_is_explained() -> None:
    """Under a budget, without PSI, and before the first sample it never holds and says why."""
    budget = replace(status(), budget=Budget(GIB, 0, "processes"))
    stalled = (Sample(0, 0, 0), Sample(2_000_000, 2_000_000, 2_000_000))
    told = [
        DETECTOR.detect(View(budget, 0, 0, stalled), firing=True),
        DETECTOR.detect(View(replace(status(), psi_full_us=None), 0, 0), firing=False),
        DETECTOR.detect(View(status(), 0, 0), firing=False),
    ]
    assert [evidence.holds for evidence in told] == [False, False, False]
    assert [evidence.text for evidence in told] == [
        "the machine's pressure does not count against a budget",
        "memory pressure is not known",
        "no window yet",
    ]


def test_words_and_window() -> None:
    """The rule as a sentence, and how much history it needs."""
    assert DETECTOR.words() == "memory pressure (full) is 40% or more over 2s"
    assert DETECTOR.window_us == 2_000_000


@pytest.mark.parametrize(("share", "holds"), [(0.9999, True), (0.80, True), (0.0111, False)])
def test_kernels_averages_of_metas_catalogue(share: float, holds: bool) -> None:
    """D1, D2: full avg10 of 99.99 and 1.11 against 80 (reached counts here as well as exceeded)."""
    detector = PressureShare(above=0.8, avg="10s")
    assert detector.detect(moment(0, Details(memory_pressure=pressure(share))), firing=False).holds is holds
    assert detector.window_us == 0
    assert detector.wants.details == {"memory_pressure"}
    groups = tuple(Cgroup(f"/a/{name}", memory_pressure=pressure(value)) for name, value in (("x", 0.1), ("y", share)))
    evidence = PressureShare(above=0.8, avg="10s", of="/a/*").detect(moment(0, cgroups=groups), firing=False)
    assert evidence.cgroups == (("/a/y",) if holds else ())


def test_each_cgroup_has_a_window_of_its_own() -> None:
    """Two cgroups that stall in turn are not one that stalls all the time; one made anew begins anew."""
    detector = PressureShare(above=0.4, over_us=2_000_000, of="/a/*")

    def look(seconds: float, **totals: tuple[int, int]) -> View:
        groups = (
            Cgroup(f"/a/{name}", inode, memory_pressure=pressure(total_us=stall * 1000))
            for name, (inode, stall) in totals.items()
        )
        return moment(seconds, cgroups=tuple(groups))

    turns = over_time(look(0, x=(1, 0), y=(2, 0)), look(1, x=(1, 500), y=(2, 0)), look(2, x=(1, 500), y=(2, 500)))
    assert not detector.detect(turns, firing=False).holds
    stalled = over_time(look(0, x=(1, 0), y=(2, 0)), look(2, x=(1, 900), y=(2, 100)))
    evidence = detector.detect(stalled, firing=False)
    assert (evidence.cgroups, evidence.text) == (("/a/x",), "/a/x: memory pressure full 45% over 2s, limit 40%")
    anew = over_time(look(0, x=(1, 0)), look(2, x=(9, 900)))
    assert not detector.detect(anew, firing=False).holds
    assert detector.wants.files == {"memory.pressure"}


def test_other_resources() -> None:
    """Stall for I/O is counted where it was asked for."""
    detector = PressureShare(above=0.4, resource="io")

    def look(seconds: float, stall_ms: int) -> View:
        return moment(seconds, Details(io_pressure=pressure(total_us=stall_ms * 1000)))

    assert detector.detect(over_time(look(0, 0), look(2, 900)), firing=False).holds
    assert not detector.detect(over_time(look(0, 0), look(2, 700)), firing=False).holds
    assert detector.detect(over_time(moment(0), moment(2)), firing=False).text == "io pressure is not known"
    assert detector.words() == "io pressure (full) is 40% or more over 2s"


def pod(path: str, at_ms: int, stalled_ms: int, used: int, most: int | None = GIB) -> Cgroup:
    """A pod's cgroup at that time."""
    return Cgroup(
        path,
        inode=1,
        time_us=1000 * at_ms,
        current_bytes=used,
        max_bytes=most,
        memory_pressure=pressure(total_us=1000 * stalled_ms),
    )


LIMITED = PressureShare(above=0.4, limited="/kubepods.slice/**")


def node(*pods: tuple[str, int, int, int | None]) -> View:
    """A machine that stalled 1.8 of 2 s, and its pods: path, stall of 2 s in ms, bytes used, memory.max."""
    begin = tuple(pod(path, 0, 0, used, most) for path, _, used, most in pods)
    now = tuple(pod(path, 2000, stalled, used, most) for path, stalled, used, most in pods)
    history = (Sample(0, 0, 0, cgroups=begin), Sample(2_000_000, 1_800_000, 1_800_000, cgroups=now))
    return View(status(time_us=2_000_000), 0, 0, history, cgroups=now)


@pytest.mark.parametrize(
    ("pods", "holds"),
    [
        ((("/kubepods.slice/a", 1700, GIB, GIB),), False),  # it thrashes within its own limit
        ((("/kubepods.slice/a", 1700, GIB // 2, GIB),), True),  # it is far from its limit: the node stalls
        ((("/kubepods.slice/a", 1700, GIB, None),), True),  # it has none
        ((("/system.slice/a", 1700, GIB, GIB),), True),  # not named by the rule
        ((("/kubepods.slice/a", 500, GIB, GIB),), True),  # it explains too little
        ((("/kubepods.slice/a", 600, GIB, GIB), ("/kubepods.slice/b", 600, GIB, GIB)), False),  # together they do
        ((("/kubepods.slice/a", 600, GIB, GIB), ("/kubepods.slice/a/c", 600, GIB, GIB)), True),  # the same stall twice
    ],
)
def test_a_pod_at_its_own_limit_is_not_the_node(
    pods: tuple[tuple[str, int, int, int | None], ...], holds: bool
) -> None:
    """The stall of what reclaims from itself is taken off; of nested ones only the outermost."""
    evidence = LIMITED.detect(node(*pods), firing=False)
    assert evidence.holds is holds
    assert ("at its own memory.max" in evidence.text) == (
        pods[0][0].startswith("/kube") and GIB == pods[0][2] == pods[0][3]
    )


def test_what_the_limits_look_at() -> None:
    """Usage, limit and pressure of the cgroups named, and nothing of cgroups without them."""
    assert LIMITED.wants.cgroups == ("/kubepods.slice/**",)
    assert LIMITED.wants.files == {"memory.current", "memory.max", "memory.pressure"}
    assert PressureShare(above=0.4).wants.cgroups == ()
    assert "without what /kubepods.slice/** make at their own limits" in LIMITED.words()
