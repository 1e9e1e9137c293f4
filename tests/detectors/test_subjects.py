"""Figures of cgroups over time, asked about many times."""

from __future__ import annotations

from oomd.detectors import subjects
from oomd.detectors.subjects import collect, unknown
from oomd.model.ruleset import Sample, View
from oomd.model.snapshot import Cgroup
from tests.fakes.builders import status


def look(time_us: int, *paths: str, inode: int = 1) -> tuple[Cgroup, ...]:
    """One look at these cgroups."""
    return tuple(Cgroup(path, inode, time_us, current_bytes=time_us) for path in paths)


def view(now_us: int, cgroups: tuple[Cgroup, ...], *past: tuple[int, tuple[Cgroup, ...]]) -> View:
    """What a detector sees."""
    history = tuple(Sample(time, 0, 0, None, groups) for time, groups in past)
    return View(status(time_us=now_us), 0, 0, history, cgroups)


def series(seen: View, of: str, window_us: int = 100) -> list[tuple[str, tuple[tuple[int, float], ...]]]:
    """The figures, as they are collected."""
    return [
        (each.subject, each.points) for each in collect(seen, of, unknown, lambda group: group.current_bytes, window_us)
    ]


def test_the_same_look_counts_once() -> None:
    """A look that several samples share is one point of each series, the newest one included."""
    first, second = look(10, "/a", "/b", "/c"), look(30, "/a", "/b")
    seen = view(50, second, (10, first), (20, first), (30, second), (40, second))
    assert series(seen, "/a") == [("/a", ((10, 10), (30, 30)))]
    assert series(seen, "/*") == [("/a", ((10, 10), (30, 30))), ("/b", ((10, 10), (30, 30)))]
    assert series(seen, "/b,/c") == [("/b", ((10, 10), (30, 30)))]


def test_a_cgroup_made_anew_begins_anew() -> None:
    """Another inode is another cgroup."""
    seen = view(50, look(50, "/a", inode=2), (10, look(10, "/a")))
    assert series(seen, "/a") == [("/a", ((50, 50),))]


def test_only_what_is_remembered_is_kept() -> None:
    """Looks that no sample holds any more are forgotten, however many there were."""
    for time_us in range(1000):
        now, before = look(time_us, "/a"), look(time_us - 1, "/a")
        assert series(view(time_us, now, (time_us - 1, before)), "/*") == [
            ("/a", ((time_us - 1, time_us - 1), (time_us, time_us)))
        ]
    assert len(subjects._known) <= 3
