"""What dies as one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd import policies
from oomd.engine.eligibility import sift
from oomd.engine.levels import Ranking, late_members, parts_of, rank
from oomd.model.decision import Candidate
from oomd.model.globs import lies_in_any
from oomd.model.ruleset import NOTHING, Choice, EngineState, Names, Preferences, Refusal, Ruleset
from oomd.model.snapshot import Cgroup, Process, Snapshot
from oomd.model.units import MIB
from oomd.policies.culprit import Culprit
from oomd.policies.freeable import Freeable
from oomd.policies.ranking import tiered
from tests.fakes.builders import process, snapshot

FRESH = EngineState()


@dataclass(frozen=True, slots=True)
class ByName:
    """The order of the catalogue: the last name first."""

    name = "by_name"
    by_size = False
    window_us = 0
    wants = NOTHING

    def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
        """Z before A."""
        return tiered(list(candidates), snapshot, lambda tier: sorted(tier, key=lambda each: each.name, reverse=True))

    def words(self) -> str:
        """For completeness."""
        return "with the last name"


def tree(**marks: str) -> tuple[Cgroup, ...]:
    """The catalogue's tree: A/{Z,X}, B/{F}, B/M/{Z,V}, Q, with marks by name (``B_M_Z="avoid"``)."""
    paths = ["/A", "/A/Z", "/A/X", "/B", "/B/F", "/Q"]
    if any("M" in name for name in marks):
        paths += ["/B/M", "/B/M/Z", "/B/M/V"]
    cgroups = []
    for path in paths:
        mark = marks.get(path.strip("/").replace("/", "_"), "")
        xattrs = ((f"user.oomd_{mark}", "1"),) if mark in ("avoid", "prefer", "omit") else ()
        cgroups.append(
            Cgroup(path, xattrs=xattrs, populated=mark != "empty", oom_group=mark == "group", anon_bytes=MIB)
        )
    return tuple(cgroups)


def crew(cgroups: tuple[Cgroup, ...]) -> tuple[Process, ...]:
    """One process in each leaf."""
    leaves = [each for each in cgroups if not any(other.parent == each.path for other in cgroups)]
    return tuple(process(100 + index, 10, cgroup=leaf.path) for index, leaf in enumerate(leaves))


def ranked(
    choice: Choice,
    cgroups: tuple[Cgroup, ...],
    processes: tuple[Process, ...] | None = None,
    *,
    policy: Any = None,
    preferences: Preferences | None = None,
    state: EngineState = FRESH,
) -> Ranking:
    """The order of these processes in these cgroups."""
    machine = snapshot(*(crew(cgroups) if processes is None else processes), cgroups=cgroups)
    candidates, rejected = sift(machine, preferences or Preferences(), state)
    ruleset = Ruleset("r", (), policy=policy or ByName(), choice=choice)
    return rank(ruleset, machine, candidates, rejected)


def victim(choice: Choice, cgroups: tuple[Cgroup, ...]) -> str:
    """The name of the first."""
    return ranked(choice, cgroups).ranked[0].name


DOWN = Choice("cgroup", ("/A", "/B"), recursive=True)


@pytest.mark.parametrize(
    ("choice", "marks", "expected"),
    [
        (DOWN, {}, "/B/F"),  # R1
        (replace(DOWN, recursive=False), {}, "/B"),  # R2
        (replace(DOWN, among=("/A", "/B/M")), {"B_M": "group"}, "/B/M"),  # R4
        (replace(DOWN, among=("/*",)), {"Q": "avoid", "B_M_V": "prefer"}, "/B/M/V"),  # R5
        (DOWN, {"B": "prefer", "B_M_Z": "avoid"}, "/B/M/V"),  # R7
        (DOWN, {"B_F": "empty"}, "/A/Z"),  # R8
        (Choice("cgroup"), {}, "/Q"),  # without `from`: the top of the tree
        (DOWN, {"B": "omit"}, "/A/Z"),
    ],
)
def test_recursive_choice_of_metas_catalogue(choice: Choice, marks: dict[str, str], expected: str) -> None:
    """R1 to R8: siblings compete with siblings, and the choice goes down to a leaf or to one whole."""
    assert victim(choice, tree(**marks)) == expected


def test_next_best_follows_depth_first() -> None:
    """After the worst grandchild its sibling, before the second-best child; and a refusal leads there."""
    order = ranked(DOWN, tree())
    assert [each.name for each in order.ranked] == ["/B/F", "/A/Z", "/A/X"]
    first = order.ranked[0].process.id
    refused = ranked(DOWN, tree(), state=EngineState(refusals=(Refusal(first, "may not be signalled by us (EPERM)"),)))
    assert [each.name for each in refused.ranked] == ["/A/Z", "/A/X"]


def test_protected_member_saves_the_whole() -> None:
    """A cgroup that holds sshd is not taken as one; who else is in it is spared with it, and told so."""
    members = (process(1001, 500, cgroup="/a"), process(1002, 1, comm="sshd", cgroup="/a/b"))
    other = process(1003, 10, cgroup="/c")
    order = ranked(
        Choice("cgroup"), (Cgroup("/a"), Cgroup("/c")), (*members, other), preferences=Preferences(Names(("sshd",)))
    )
    assert [each.name for each in order.ranked] == ["/c"]
    spared = next(each for each in order.rejected if each.name == "/a")
    assert (spared.kind, spared.why) == ("cgroup", "holds sshd (1002), which is protected by its name sshd")


def test_members_that_own_nothing_go_with_the_others() -> None:
    """An idle shell does not save its cgroup, and dies with it; a zombie and one that is dying are no members."""
    members = (
        process(1001, 500, cgroup="/a"),
        process(1002, 0, cgroup="/a"),
        process(1003, 0, cgroup="/a", state="Z"),
        process(1004, 50, cgroup="/a", kill_pending=True),
    )
    (target,) = ranked(Choice("cgroup"), (Cgroup("/a"),), members).ranked
    assert [each.id.pid for each in target.processes] == [1001, 1002]
    assert [part.process.id.pid for part in parts_of(target)] == [1001, 1002]


def test_most_processes_one_action_may_take() -> None:
    """65 processes are too many unless the rule lifts the cap; then nothing is left to take as one, and the largest
    single process is taken.
    """
    crowd = tuple(process(1000 + index, 1 + index, cgroup="/a") for index in range(65))
    order = ranked(Choice("cgroup"), (Cgroup("/a"),), crowd, policy=Freeable())
    assert order.rejected[-1].why == "has 65 processes, more than the 64 that one action may take"
    assert order.note == "nothing may be taken at level cgroup, so one process is"
    assert (order.ranked[0].kind, order.ranked[0].process.id.pid) == ("process", 1064)
    lifted = ranked(Choice("cgroup", most=65), (Cgroup("/a"),), crowd, policy=Freeable())
    assert len(lifted.ranked[0].members) == 65


def test_process_in_takes_one_of_the_chosen_cgroup() -> None:
    """The terminal does not die for its child: the cgroup is chosen, then the process in it."""
    members = (process(1001, 20, cgroup="/t"), process(1002, 500, cgroup="/t/child"), process(1003, 400, cgroup="/x"))
    cgroups = (Cgroup("/t"), Cgroup("/x"))
    order = ranked(Choice("process_in"), cgroups, members, policy=Culprit())
    assert [(each.kind, each.process.id.pid) for each in order.ranked] == [
        ("process", 1002),
        ("process", 1001),
        ("process", 1003),
    ]


@pytest.mark.parametrize(("level", "field"), [("group", "pgrp"), ("session", "session")])
def test_groups_and_sessions(level: str, field: str) -> None:
    """Members are summed; one protected member saves the group."""
    members = (
        process(1001, 300, **{field: 7}),
        process(1002, 300, **{field: 7}),
        process(1003, 500, **{field: 8}),
        process(1004, 900, **{field: 9}),
        process(1005, 1, comm="sshd", **{field: 9}),
    )
    order = ranked(Choice(level), (), members, policy=Freeable(), preferences=Preferences(Names(("sshd",))))
    assert [(each.kind, each.name, len(each.members)) for each in order.ranked] == [(level, "7", 2), (level, "8", 1)]
    assert order.ranked[0].freeable_bytes == 600 * MIB
    assert order.rejected[-1].name == "9"


def test_memory_shared_within_a_group_comes_back_once() -> None:
    """Two workers that share 80 of 100 MiB give back 20 each and the 80 once."""
    members = tuple(process(pid, 100, pgrp=7, private_bytes=20 * MIB) for pid in (1001, 1002))
    (group,) = ranked(Choice("group"), (), members, policy=Freeable()).ranked
    assert group.freeable_bytes == 120 * MIB


def test_from_narrows_processes_too() -> None:
    """At level process ``from`` says whose processes may be chosen, whatever lies below."""
    members = (process(1001, 500, cgroup="/a"), process(1002, 100, cgroup="/b/c"))
    order = ranked(Choice(among=("/b",)), (), members, policy=Freeable())
    assert [each.process.id.pid for each in order.ranked] == [1002]
    assert order.rejected[-1].why == "is not among those that the rule may choose from"


def test_processes_know_their_cgroup() -> None:
    """The nearest cgroup that was looked at, for policies that rank by it."""
    order = ranked(Choice(), (Cgroup("/a"), Cgroup("/a/b")), (process(1001, 5, cgroup="/a/b/c"),), policy=Freeable())
    assert order.ranked[0].cgroup == Cgroup("/a/b")


def test_cgroups_memory_is_what_its_files_say() -> None:
    """memory.stat counts shared memory once, so it is believed before the sum of the members."""
    cgroup = Cgroup("/a", anon_bytes=90 * MIB, swap_bytes=10 * MIB)
    (target,) = ranked(
        Choice("cgroup"), (cgroup,), (process(1001, 80, cgroup="/a"), process(1002, 80, cgroup="/a"))
    ).ranked
    assert target.freeable_bytes == 100 * MIB
    assert [part.freeable_bytes for part in parts_of(target)] == [50 * MIB, 50 * MIB]


def test_patterns_within_each_other() -> None:
    """A slice and a unit in it, both named: the slice stands for both, nobody is counted twice."""
    choice = Choice("cgroup", ("/A", "/A/Z"))
    assert [each.name for each in ranked(choice, tree()).ranked] == ["/A"]


def test_late_members_of_each_kind() -> None:
    """Who was forked while its set was being killed belongs to it."""
    target = ranked(Choice("cgroup"), (Cgroup("/a"),), (process(1001, 5, cgroup="/a"),)).ranked[0]
    machine = snapshot(process(2001, 5, cgroup="/a/b"), process(2002, 0, cgroup="/a"), process(2003, 5, cgroup="/b"))
    candidates, rejected = sift(machine, Preferences(), FRESH)
    assert [each.process.id.pid for each in late_members(target, candidates, rejected)] == [2001, 2002]
    group = ranked(Choice("group"), (), (process(1001, 5, pgrp=7),)).ranked[0]
    candidates, rejected = sift(snapshot(process(2001, 5, pgrp=7), process(2002, 5, pgrp=8)), Preferences(), FRESH)
    assert [each.process.id.pid for each in late_members(group, candidates, rejected)] == [2001]


def test_omit_holds_for_single_processes_too() -> None:
    """Whoever is in a cgroup that is spared by its mark is not taken as a single process either, however deep it lies;
    the others are, where no set may be taken.
    """
    cgroups = tree(B="omit")
    inside, outside = process(11, 50, cgroup="/B/F/deeper"), process(12, 5, cgroup="/elsewhere/x")
    only = ranked(Choice("cgroup", ("/A", "/B")), cgroups, (inside,))
    assert only.ranked == ()
    assert [each.why for each in only.rejected] == ["bears the mark oomd_omit"]
    both = ranked(Choice("cgroup"), cgroups, (inside, outside))
    assert [each.process.id.pid for each in both.ranked] == [12]


DEEP = (Cgroup("/A"), Cgroup("/A/X"), Cgroup("/Q"))


@pytest.mark.parametrize(
    ("sizes", "first"),
    [
        ({"/A": 30, "/A/X": 10, "/Q": 1}, ("cgroup_only", "/A")),
        ({"/A": 10, "/A/X": 30, "/Q": 1}, ("cgroup", "/A/X")),
        ({"/A": 10, "/A/X": 10, "/Q": 30}, ("cgroup", "/Q")),
        ({"/": 30, "/A/X": 10}, ("cgroup_only", "/")),
    ],
)
def test_processes_beside_cgroups_compete_with_them(sizes: dict[str, int], first: tuple[str, str]) -> None:
    """Those directly in a cgroup that has others below (or in the root) are one more of the siblings there, and what
    is below outlives them.
    """
    processes = tuple(process(100 + n, size, cgroup=path) for n, (path, size) in enumerate(sizes.items()))
    order = ranked(Choice("cgroup", recursive=True), DEEP, processes, policy=Freeable()).ranked
    assert (order[0].kind, order[0].name) == first
    assert [each.cgroup for each in order[0].processes] == [first[1]]
    assert {path for each in order for path in (each.name,)} == set(sizes)


def test_processes_beside_cgroups_as_single_ones_and_late_ones() -> None:
    """With ``process_in`` each of them stands for itself; those forked into the cgroup meanwhile follow, those below
    do not; a protected one saves the set.
    """
    one, two, below = process(11, 30, cgroup="/A"), process(12, 20, cgroup="/A"), process(13, 5, cgroup="/A/X")
    singles = ranked(Choice("process_in", recursive=True), DEEP, (one, two, below), policy=Freeable()).ranked
    assert [(each.kind, each.process.id.pid) for each in singles] == [("process", 11), ("process", 12), ("process", 13)]
    taken = ranked(Choice("cgroup", recursive=True), DEEP, (one, two, below), policy=Freeable()).ranked[0]
    assert [each.id.pid for each in taken.processes] == [11, 12]
    late, lower = process(14, 5, cgroup="/A"), process(15, 5, cgroup="/A/X")
    candidates, rejected = sift(snapshot(late, lower), Preferences(), FRESH)
    assert [each.process.id.pid for each in late_members(taken, candidates, rejected)] == [14]
    preferences = Preferences(protect=Names(("vital",)))
    crowd = (one, replace(two, comm="vital"), below)
    saved = ranked(Choice("cgroup", recursive=True), DEEP, crowd, policy=Freeable(), preferences=preferences)
    assert [each.name for each in saved.ranked] == ["/A/X"]
    assert [(each.kind, each.name) for each in saved.rejected if each.kind != "process"] == [("cgroup_only", "/A")]


def test_a_whole_cgroup_takes_its_direct_processes_along() -> None:
    """Where the recursion stops (memory.oom.group), or is not asked for, everybody goes as one."""
    cgroups = (Cgroup("/A", oom_group=True), Cgroup("/A/X"))
    processes = (process(11, 1, cgroup="/A"), process(12, 30, cgroup="/A/X"))
    for choice in (Choice("cgroup", recursive=True), Choice("cgroup")):
        order = ranked(choice, cgroups, processes, policy=Freeable()).ranked
        assert [(each.kind, each.name, len(each.processes)) for each in order] == [("cgroup", "/A", 2)]


PATHS = ["/", "/a", "/a/b", "/a/b/c", "/a/d", "/e", "/e/f"]
CROWDS = st.lists(
    st.builds(
        process,
        st.integers(2, 400),
        st.integers(0, 500),
        cgroup=st.sampled_from(PATHS),
        comm=st.sampled_from(["sshd", "x", "y", "z"]),
        pgrp=st.integers(1, 4),
        session=st.integers(1, 3),
        oom_score_adj=st.sampled_from([-1000, -100, 0, 500]),
        state=st.sampled_from("SZ"),
    ),
    unique_by=lambda each: each.id.pid,
    max_size=20,
)


@given(
    CROWDS,
    st.sampled_from(["process", "group", "session", "cgroup", "process_in"]),
    st.booleans(),
    st.sampled_from([(), ("/a",), ("/*",), ("/a/*", "/e"), ("/a", "/a/b")]),
    st.integers(1, 8),
    st.sampled_from(policies.ALL),
)
def test_never_an_ineligible_victim_and_nobody_twice(
    processes: list[Process], level: str, recursive: bool, among: tuple[str, ...], most: int, policy: Any
) -> None:
    """Whatever the level: everybody who dies is a candidate or owns nothing, no set exceeds the cap, nobody stands in
    the order twice, nobody outside of ``from`` dies; and there is a victim whenever a candidate is left.
    """
    cgroups = tuple(Cgroup(path) for path in PATHS if path != "/")
    machine = snapshot(*processes, cgroups=cgroups)
    preferences = Preferences(protect=Names(("sshd",)), avoid=Names(("z",)))
    candidates, rejected = sift(machine, preferences, FRESH)
    ruleset = Ruleset("r", (), policy=policy(), choice=Choice(level, among, recursive, most))
    order = rank(ruleset, machine, candidates, rejected)
    allowed = {each.process.id for each in candidates}
    idle = {each.process.id for each in rejected if each.why.startswith("owns no")}
    dying = [each.id for candidate in order.ranked for each in candidate.processes]
    assert set(dying) <= allowed | idle
    assert len(dying) == len(set(dying))
    assert all(len(candidate.processes) <= most or candidate.kind == "process" for candidate in order.ranked)
    if not among and level == "process":
        assert set(dying) == allowed
    if any(not among or lies_in_any(among, each.process.cgroup) for each in candidates):
        assert order.ranked
    if among:
        assert all(lies_in_any(among, each.cgroup) for one in order.ranked for each in one.processes)
    if not among and level != "process" and not any(each.kind != "process" for each in order.rejected):
        assert set(dying) >= allowed
