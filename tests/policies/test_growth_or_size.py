"""Meta's order: whoever holds the pool, else grows fastest among the large, else is largest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oomd.model.decision import Candidate
from oomd.model.snapshot import Cgroup, Snapshot
from oomd.policies.growth_or_size import GrowthOrSize
from oomd.policies.protection import protection_bytes
from tests.fakes.builders import candidate, snapshot


def sibling(pid: int, used: int, preference: str = "normal") -> Candidate:
    """A cgroup ``c1`` … with memory.current of ``used`` bytes."""
    cgroup = Cgroup(f"/c{pid}", time_us=2, current_bytes=used)
    made = candidate(pid, 0, preference=preference)
    return replace(made, freeable_bytes=used, kind="cgroup", name=cgroup.path, cgroup=cgroup)


def first(candidates: tuple[Candidate, ...], before: dict[int, int] | None = None) -> int:
    """The victim; ``before``: what each used some seconds ago, as it does now unless given."""
    return ranked(candidates, before)[0]


def ranked(candidates: tuple[Candidate, ...], before: dict[int, int] | None = None) -> list[int]:
    """The order."""
    cgroups = tuple(each.cgroup for each in candidates if each.cgroup is not None)
    earlier = tuple(
        replace(cgroup, time_us=1, current_bytes=(before or {}).get(int(cgroup.path[2:]), cgroup.current_bytes))
        for cgroup in cgroups
    )
    machine: Snapshot = snapshot(cgroups=cgroups, earlier=earlier)
    return [each.process.id.pid for each in GrowthOrSize().rank(candidates, machine)]


@pytest.mark.parametrize(
    ("used", "preferences", "victim"),
    [
        ((60, 20, 20), "nnn", 1),  # M1
        ((60, 20, 20), "npn", 2),  # M2
        ((60, 30, 20), "ann", 2),  # M3
        ((60, 20, 20), "naa", 1),  # M4
        ((60, 20, 20), "ppp", 1),
        ((60, 20, 20), "pap", 1),
        ((21, 20, 30), "nnn", 3),  # M5
        ((21, 99, 30), "ppn", 2),  # M9
        ((21, 99, 30), "nnn", 2),
    ],
)
def test_metas_catalogue(used: tuple[int, int, int], preferences: str, victim: int) -> None:
    """M1 to M9, nobody having grown."""
    names = {"n": "normal", "p": "prefer", "a": "avoid"}
    candidates = tuple(
        sibling(pid, size, names[letter]) for pid, size, letter in zip((1, 2, 3), used, preferences, strict=True)
    )
    assert first(candidates) == victim


def test_growth_counts_among_the_large() -> None:
    """M6: 21/20/30, the first was 5: it is taken if it counts among the large ones, which at a share of 20 % is the
    largest alone; Meta's case relies on a lower percentile.
    """
    candidates = (sibling(1, 21), sibling(2, 20), sibling(3, 30))
    assert first(candidates, {1: 5}) == 3
    cgroups = tuple(each.cgroup for each in candidates if each.cgroup is not None)
    earlier = tuple(replace(each, current_bytes=5 if each.path == "/c1" else each.current_bytes) for each in cgroups)
    machine = snapshot(cgroups=cgroups, earlier=earlier)
    wider = GrowthOrSize(among_largest=0.7)
    assert wider.rank(candidates, machine)[0].process.id.pid == 1


def test_nobody_seen_for_the_first_time_has_grown() -> None:
    """Without a past the ratio is 1, not 4 as at Meta's first sample."""
    candidates = (sibling(1, 21), sibling(2, 20), sibling(3, 30))
    order = GrowthOrSize(among_largest=1.0).rank(candidates, snapshot())
    assert [each.process.id.pid for each in order] == [3, 1, 2]


def test_ratio_keeps_its_decimals() -> None:
    """1.3 is more than 1.25 and less than 1.5."""
    candidates = (sibling(1, 26), sibling(2, 26), sibling(3, 26))
    cgroups = tuple(each.cgroup for each in candidates if each.cgroup is not None)
    earlier = (replace(cgroups[1], current_bytes=20),)
    machine = snapshot(cgroups=cgroups, earlier=earlier)
    assert GrowthOrSize(growth=1.25).rank(candidates, machine)[0].process.id.pid == 2
    assert GrowthOrSize(growth=1.5).rank(candidates, machine)[0].process.id.pid == 1


def test_sibling_outside_the_pattern_counts_too() -> None:
    """M10: another pattern brings another sibling into the pool."""
    assert first((sibling(1, 21), sibling(2, 30), sibling(3, 20), sibling(888, 100))) == 888


def test_protection_of_metas_catalogue() -> None:
    """C1: what memory.min and memory.low protect, handed down the hierarchy."""
    cgroups = (
        Cgroup("/A", current_bytes=10000, low_bytes=2000, min_bytes=2500),
        Cgroup("/B", current_bytes=1000, low_bytes=250, min_bytes=200),
        Cgroup("/B/C", current_bytes=400),
        Cgroup("/B/D", current_bytes=400),
        Cgroup("/E", current_bytes=250, low_bytes=1000, min_bytes=200),
        Cgroup("/E/F", current_bytes=2000, low_bytes=2000),
        Cgroup("/E/G", current_bytes=3000, low_bytes=3000),
    )
    protected = {cgroup.path: protection_bytes(cgroup, cgroups) for cgroup in cgroups}
    assert protected == {"/A": 2500, "/B": 250, "/B/C": 0, "/B/D": 0, "/E": 250, "/E/F": 100, "/E/G": 150}
    assert protection_bytes(None, cgroups) == 0


def test_protected_memory_does_not_count_as_size() -> None:
    """Of two equal ones the protected one lives."""
    kept = sibling(1, 100)
    assert kept.cgroup is not None
    kept = replace(kept, cgroup=replace(kept.cgroup, low_bytes=60))
    assert ranked((kept, sibling(2, 90), sibling(3, 80))) == [2, 3, 1]
