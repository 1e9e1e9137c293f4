"""The cgroups that the rules look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oomd.model.ruleset import NOTHING, Wants
from oomd.monitor.watch import SOONEST_US, CgroupWatch
from tests.ends import until_end
from tests.fakes.cgroup_tree import CgroupTree

if TYPE_CHECKING:
    from pathlib import Path


def make(tmp_path: Path) -> tuple[CgroupTree, CgroupWatch]:
    """A tree with two services, and a watch on it."""
    tree = CgroupTree(tmp_path / "cgroup")
    tree.add_group("/system.slice/a", anon=10, low=5)
    tree.add_group("/system.slice/b", anon=20)
    return tree, until_end(CgroupWatch(str(tree.root)))


def test_nothing_is_opened_that_no_rule_wants(tmp_path: Path) -> None:
    """The default rules know no cgroup."""
    _, watch = make(tmp_path)
    watch.want(NOTHING, choices=False)
    assert watch.reader is None
    assert watch.look(lambda: 0) == ()
    assert watch.choice(NOTHING, 0) == ()


def test_what_detectors_want_is_read_no_more_often_than_it_is_worth(tmp_path: Path) -> None:
    """A look within a tenth of a second shows what the last one did; so does one before twenty times its cost."""
    tree, watch = make(tmp_path)
    watch.want(Wants(cgroups=("/system.slice/*",), files=frozenset({"memory.current"})), choices=False)
    assert [cgroup.current_bytes for cgroup in watch.look(lambda: 0)] == [10, 20]
    tree.change_group("/system.slice/a", anon=99)
    assert [cgroup.current_bytes for cgroup in watch.look(lambda: SOONEST_US - 1)] == [10, 20]
    times = iter((SOONEST_US, SOONEST_US + 50_000))
    assert [cgroup.current_bytes for cgroup in watch.look(lambda: next(times))] == [99, 20]
    tree.change_group("/system.slice/a", anon=7)
    assert watch.look(lambda: SOONEST_US + 1_000_000)[0].current_bytes == 99
    assert watch.look(lambda: SOONEST_US + 1_050_000)[0].current_bytes == 7


def test_choice_sees_all_that_it_needs_and_the_ancestors(tmp_path: Path) -> None:
    """Usage, protection and oom.group of those that may be chosen, and of those above them."""
    _, watch = make(tmp_path)
    watch.want(NOTHING, choices=True)
    seen = watch.choice(Wants(cgroups=("/system.slice/*",), files=frozenset({"io.pressure"})), 5)
    assert [cgroup.path for cgroup in seen] == ["/system.slice", "/system.slice/a", "/system.slice/b"]
    assert (seen[1].low_bytes, seen[1].anon_bytes, seen[1].oom_group) == (5, 10, False)
    assert seen[1].io_pressure is not None
    assert seen[1].cpu_pressure is None


def test_missing_hierarchy_is_no_cgroups(tmp_path: Path) -> None:
    """Where there is no such tree nobody can be seen, and nothing fails."""
    watch = CgroupWatch(str(tmp_path / "nowhere"))
    watch.want(Wants(cgroups=("/*",)), choices=True)
    assert watch.look(lambda: 0) == ()
    assert watch.choice(Wants(cgroups=("/*",)), 0) == ()
