"""Units' own settings from the setting to the decision: what systemd's own test of its killer asserts (TEST-55-OOMD),
and the rules of its candidates, in our words.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from oomd.config.effective import to_yaml
from oomd.config.loader import default_config, load_config
from oomd.engine.detection import carried_state, initial_state, observe
from oomd.engine.managed import PAUSE_US, limits_of, managed_rulesets, with_managed, words_of
from oomd.engine.selection import select
from oomd.model.decision import KILL, NO_ACTION, Decision
from oomd.model.managed import ManagedOptions, ManagedUnit
from oomd.model.ruleset import Rules
from oomd.model.snapshot import Cgroup
from oomd.model.units import GIB, MIB, SECOND_US
from tests.fakes.builders import pressure, process, snapshot, status

if TYPE_CHECKING:
    from collections.abc import Sequence

WORK = "/workload.slice"
UNIT = ManagedUnit(WORK, pressure=True, limit=0.2, duration_us=2 * SECOND_US)
OPTIONS = ManagedOptions()


@dataclass(frozen=True)
class Group:
    """One cgroup at one second: pages scanned so far, anonymous memory, swap, marks."""

    path: str
    pgscan: int = 0
    anon: int = 10 * MIB
    swap: int = 0
    avg10: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)


def cgroup(group: Group, second: float) -> Cgroup:
    """As it was read at that second."""
    return Cgroup(
        group.path,
        inode=hash(group.path),
        time_us=int(second * SECOND_US),
        current_bytes=group.anon,
        anon_bytes=group.anon,
        swap_bytes=group.swap,
        pgscan=group.pgscan,
        memory_pressure=pressure(group.avg10),
        **group.values,
    )


def play(
    units: tuple[ManagedUnit, ...],
    seconds: Sequence[tuple[Group, ...]],
    **memory: Any,
) -> list[tuple[int, Decision]]:
    """A look each second; what was decided when, if anything. Each cgroup without children holds one process."""
    rules = Rules(managed_rulesets(units, OPTIONS))
    state = initial_state(rules)
    decisions = []
    for second, groups in enumerate(seconds):
        now = status(time_us=second * SECOND_US, **memory)
        cgroups = tuple(cgroup(group, second) for group in groups)
        parents = {each.parent for each in cgroups}
        processes = tuple(
            process(100 + number, group.anon / MIB, cgroup=group.path, swap_bytes=group.swap, comm=group.path[-12:])
            for number, group in enumerate(groups)
            if group.path not in parents
        )
        detections, state = observe(rules, now, state, cgroups)
        decision = select(rules, snapshot(*processes, status=now, cgroups=cgroups), detections, state)
        if decision.action != NO_ACTION:
            decisions.append((second, decision))
    return decisions


def workload(second: int, marks: dict[str, str], avg10: float | None = None) -> tuple[Group, ...]:
    """A slice with a hog beneath memory.high (bloat), a lesser one (munch) and a large sleeper (chill)."""
    stall = min(0.9, 0.3 * second) if avg10 is None else avg10

    def leaf(name: str, pgscan: int, anon: int) -> Group:
        values = {"xattrs": ((f"user.oomd_{marks[name]}", "1"),)} if name in marks else {}
        return Group(f"{WORK}/{name}.service", pgscan, anon * MIB, values=values)

    leaves = (leaf("bloat", 4000 * second, 3), leaf("munch", 900 * second, 12), leaf("chill", 0, 40))
    return (Group(WORK, sum(each.pgscan for each in leaves), avg10=stall), *leaves)


@pytest.mark.parametrize(
    ("marks", "dies"),
    [({}, "bloat"), ({"bloat": "avoid"}, "munch"), ({"bloat": "omit"}, "munch")],
    ids=["bloat", "avoid", "omit"],
)
def test_the_hog_of_the_slice_dies(marks: dict[str, str], dies: str) -> None:
    """After so many seconds above its limit the slice loses who was scanned most, never the sleeper; at once and as a
    whole.
    """
    decisions = play((UNIT,), [workload(second, marks) for second in range(6)])
    second, decision = decisions[0]
    assert (second, decision.action, decision.target and decision.target.name) == (3, KILL, f"{WORK}/{dies}.service")
    assert decision.target is not None
    assert decision.target.kind == "cgroup"
    assert decision.grace_us == 0


@pytest.mark.parametrize(("duration", "first"), [(3, 4), (3600, None)])
def test_duration_of_the_unit(duration: int, first: int | None) -> None:
    """No sooner than its own duration says."""
    unit = replace(UNIT, duration_us=duration * SECOND_US)
    decisions = play((unit,), [workload(second, {}) for second in range(7)])
    assert (decisions[0][0] if decisions else None) == first


def test_limit_of_the_unit() -> None:
    """Below its own limit nothing is done, and nothing without reclaim: that is what a kill left behind."""
    assert not play((UNIT,), [workload(second, {}, avg10=0.15) for second in range(6)])
    still = [tuple(replace(each, pgscan=500) for each in workload(second, {})) for second in range(6)]
    assert not play((UNIT,), still)


def test_a_fall_begins_the_time_anew() -> None:
    """A second below the limit, and the two seconds count from the next one above."""
    stalls = [0.9, 0.9, 0.0, 0.9, 0.9, 0.9, 0.9]
    decisions = play((UNIT,), [workload(second, {}, avg10=stall) for second, stall in enumerate(stalls)])
    assert decisions[0][0] == 5


def nested(second: int, *, group: str = "", mark: str = "") -> tuple[Group, ...]:
    """Two services with cgroups of their own below: the worst of all leaves is in the calmer of the two."""
    rates = {"a.service/x": 100, "a.service/y": 5000, "b.service/z": 3000, "b.service/w": 2900}
    groups = {f"{WORK}/{name}": rate * second for name, rate in rates.items()}
    for above in ("a.service", "b.service"):
        groups[f"{WORK}/{above}"] = sum(rate for name, rate in groups.items() if name.startswith(f"{WORK}/{above}/"))
    groups[WORK] = 11_000 * second
    return tuple(
        Group(
            path,
            pages,
            avg10=0.9 if path == WORK else 0,
            values={
                "oom_group": path == f"{WORK}/{group}",
                "xattrs": (("user.oomd_avoid", "1"),) if path == f"{WORK}/{mark}" else (),
            },
        )
        for path, pages in sorted(groups.items())
    )


@pytest.mark.parametrize(
    ("group", "mark", "dies"),
    [
        ("", "", "a.service/y"),
        ("", "a.service/y", "b.service/z"),
        ("", "a.service", "a.service/y"),  # marks are not inherited
        ("b.service", "", "b.service"),  # 5900 pages a second as a whole
        ("a.service", "", "a.service"),
    ],
    ids=["leaf", "avoided-leaf", "mark-above", "whole", "whole-with-the-worst"],
)
def test_candidates_are_leaves_and_groups(group: str, mark: str, dies: str) -> None:
    """All leaves stand in one rank, however deep they are; memory.oom.group=1 is taken whole and not gone into."""
    decisions = play((UNIT,), [nested(second, group=group, mark=mark) for second in range(4)])
    assert decisions[0][1].target is not None
    assert decisions[0][1].target.name == f"{WORK}/{dies}"


def test_a_unit_without_children_is_its_own_candidate() -> None:
    """A service that watches its own pressure."""
    unit = replace(UNIT, path="/system.slice/web.service")
    seconds = [(Group(unit.path, 1000 * second, avg10=0.9),) for second in range(4)]
    decisions = play((unit,), seconds)
    assert decisions[0][1].target is not None
    assert decisions[0][1].target.name == unit.path


def test_own_oom_group_of_what_is_watched() -> None:
    """What watches is not taken whole by its own memory.oom.group: those below are the candidates."""
    decisions = play((UNIT,), [nested(second) for second in range(4)])
    whole = [tuple(replace(each, values={"oom_group": each.path == WORK}) for each in nested(n)) for n in range(4)]
    assert decisions[0][1].target is not None
    assert play((UNIT,), whole)[0][1].target == replace(decisions[0][1].target)


def test_two_units_each_their_own() -> None:
    """Who stalls loses one of its own; the other one loses nobody, however much is scanned there."""
    other = ManagedUnit("/other.slice", pressure=True, limit=0.2, duration_us=2 * SECOND_US)
    seconds = [
        (*workload(second, {}), Group("/other.slice", 90_000 * second), Group("/other.slice/huge", 90_000 * second))
        for second in range(5)
    ]
    for _, decision in play((UNIT, other), seconds):
        assert decision.target is not None
        assert decision.target.name == f"{WORK}/bloat.service"


def herd(swap: dict[str, int], **marks: str) -> list[tuple[Group, ...]]:
    """Leaves below the root with so many MiB in swap."""
    return [
        (
            Group("/"),
            *(
                Group(
                    f"/{name}.service",
                    swap=amount * MIB,
                    values={"xattrs": ((f"user.oomd_{marks[name]}", "1"),)} if name in marks else {},
                )
                for name, amount in swap.items()
            ),
        )
    ]


FULL = {
    "mem_total_bytes": 8 * GIB,
    "mem_available_bytes": 8 * GIB // 10 - MIB,
    "swap_total_bytes": 800 * MIB,
    "swap_free_bytes": 79 * MIB,
}
SWAP = {"derp": 60, "sheep": 45, "herp": 42, "boop": 11}
ROOT = (ManagedUnit("/", swap=True),)


@pytest.mark.parametrize(
    ("changes", "marks", "dies"),
    [
        ({}, {}, "derp"),
        ({}, {"derp": "omit", "sheep": "avoid"}, "herp"),
        ({"mem_available_bytes": GIB}, {}, None),  # there is memory
        ({"swap_free_bytes": 81 * MIB}, {}, None),  # there is swap
        ({"swap_total_bytes": 0, "swap_free_bytes": 0}, {}, None),  # there is none: not this rule's affair
    ],
    ids=["most-swap", "marks", "memory", "swap", "no-swap"],
)
def test_swap(changes: dict[str, int], marks: dict[str, str], dies: str | None) -> None:
    """Both memory and swap must be used up; then whoever holds most swap goes."""
    decisions = play(ROOT, herd(SWAP, **marks), **{**FULL, **changes})
    targets = [decision.target.name for _, decision in decisions if decision.target is not None]
    assert targets == ([f"/{dies}.service"] if dies else [])


def test_swap_in_small_pieces() -> None:
    """Ours on purpose: nobody holds 5 % of the swap, and all the same somebody goes."""
    decisions = play(ROOT, herd({"a": 20, "b": 30}), **FULL)
    assert decisions[0][1].target is not None
    assert decisions[0][1].target.name == "/b.service"


def test_only_below_those_that_ask() -> None:
    """Swap is watched for a slice: whoever is outside of it is spared, much as he may hold."""
    groups = [(Group("/a.slice"), Group("/a.slice/x", swap=50 * MIB), Group("/b.slice"), Group("/b.slice/y", swap=GIB))]
    decisions = play((ManagedUnit("/a.slice", swap=True),), groups, **FULL)
    assert decisions[0][1].target is not None
    assert decisions[0][1].target.name == "/a.slice/x"


def test_defaults() -> None:
    """What a unit does not say is said by the configuration, and no duration is shorter than a second."""
    options = ManagedOptions(pressure_limit=0.8, pressure_duration_us=5 * SECOND_US)
    assert limits_of(ManagedUnit("/a", pressure=True), options) == (0.8, 5 * SECOND_US)
    told = int(0.55 * 0xFFFFFFFF) / 0xFFFFFFFF  # as PID 1 does, a little less
    assert limits_of(ManagedUnit("/a", pressure=True, limit=told, duration_us=1000), options) == (0.55, SECOND_US)
    assert managed_rulesets((ManagedUnit("/a", pressure=True),), options)[0].pause_us == PAUSE_US


def test_words() -> None:
    """What is in force, for people; not without end."""
    assert words_of((UNIT, *ROOT), OPTIONS) == (
        "units' own settings: /workload.slice: pressure above 20% for 2s; /: swap above 90%"
    )
    assert words_of((), OPTIONS) == "units' own settings: none"
    assert words_of(tuple(ManagedUnit(f"/{n}", swap=True) for n in range(14)), OPTIONS).endswith("; and 4 more")


def test_a_recording_can_tell_them() -> None:
    """Written out as a configuration they load as the same."""
    config = default_config()
    told = int(0.4713 * 0xFFFFFFFF) / 0xFFFFFFFF
    units = (UNIT, *ROOT, ManagedUnit("/a.slice", pressure=True, swap=True, limit=told))
    config = replace(config, rules=with_managed(config.rules, units, OPTIONS))
    assert load_config("recording", text=to_yaml(config).encode()) == config


def test_rules_of_the_configuration_stay() -> None:
    """Units' rules come after those of the configuration; who stays when units come and go remembers what it did."""
    base = default_config().rules
    before, after = (with_managed(base, units, OPTIONS) for units in ((UNIT,), (UNIT, *ROOT)))
    assert before.rulesets[: len(base.rulesets)] == base.rulesets
    state = initial_state(before)
    memories = tuple(replace(each, paused_until_us=number + 1) for number, each in enumerate(state.rulesets))
    carried = carried_state(replace(state, rulesets=memories), before, after)
    paused = {rule.name: each.paused_until_us for rule, each in zip(after.rulesets, carried.rulesets, strict=True)}
    assert paused == {"level": 1, "stall": 2, "systemd: swap": 0, f"systemd: {WORK}": 3}
    other = with_managed(base, (replace(UNIT, limit=0.5),), OPTIONS)
    assert carried_state(carried, after, other).rulesets[-1].paused_until_us == 0
