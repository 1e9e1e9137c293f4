"""The conformance catalogue of the rules of Meta's oomd, replayed: who is chosen, and at which step.

What the catalogue says of drop-ins, hooks, counters on a socket and marks written after a kill (E2 in part, E3, E5, E6)
is not about whom to choose, and no trace can show it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from oomd.__main__ import main
from tests.conformance.catalogue import ALWAYS, SIZE, Group, Groups, Machine, ask, config, replay, ruleset, write_step
from tests.conformance.oomd_rules import (
    AVOID,
    C1,
    C2,
    C3,
    CASES,
    FITTING,
    KIB,
    SIZES,
    Case,
    dying,
    many,
    of_pool,
    pool,
    stalls,
    swapping,
    watching,
)
from tests.fakes.proc_tree import GIB, MIB

if TYPE_CHECKING:
    from pathlib import Path

Capture = pytest.CaptureFixture[str]


def play(folder: Path, capsys: Capture, case: Case) -> list[tuple[float, str]]:
    """Who was chosen, and when."""
    return replay(folder, capsys, case.rules, case.steps).chosen


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_chosen_as_there(tmp_path: Path, capsys: Capture, case: Case) -> None:
    """The same victim at the same step, or nobody."""
    assert play(tmp_path, capsys, case) == list(case.chosen)


def test_names_are_told_once() -> None:
    """No two cases share a name."""
    assert len({case.name for case in CASES}) == len(CASES)


def test_r2_r4_all_within(tmp_path: Path, capsys: Capture) -> None:
    """A cgroup that is taken as a whole dies with every process below it."""
    groups = {"/Y/M": Group(files={"oom_group": True}), "/Y/M/C": Group(SIZE, pid=7), "/Y/M/D": Group(SIZE, pid=8)}
    rules = config(ruleset(ALWAYS, 'from: ["/*"], level: cgroup, policy: resident, recursive: true'))
    answer = replay(tmp_path, capsys, rules, {"0": Machine(groups)})
    assert answer.lines[0]["decision"]["pids"] == [7, 8]


def test_1_7_depth_first(tmp_path: Path, capsys: Capture) -> None:
    """The second best grandchild stands before the second best child."""
    groups = {"/A": Group(3 * SIZE), "/B/F": Group(SIZE), "/B/M/V": Group(SIZE), "/B/M/Z": Group(2 * SIZE)}
    rules = config(ruleset(ALWAYS, 'from: ["/*"], level: cgroup, policy: resident, recursive: true'))
    answer = replay(tmp_path, capsys, rules, {"0": Machine(groups)})
    assert answer.order() == ["/B/M/Z", "/B/M/V", "/B/F", "/A"]


def test_1_7_mark_of_an_owner(tmp_path: Path, capsys: Capture) -> None:
    """Ours on purpose: a mark to be spared counts only from root or the owner of what lies above, as in systemd;
    there anybody exempts his own cgroups at the cost of others.
    """
    groups = {"/A": Group(SIZE), "/B": Group(2 * SIZE, AVOID, owner=1000)}
    rules = config(ruleset(ALWAYS, 'from: ["/*"], level: cgroup, policy: resident'))
    assert replay(tmp_path, capsys, rules, {"0": Machine(groups)}).chosen == [(0, "/B")]


def test_d1_at_the_limit(tmp_path: Path, capsys: Capture) -> None:
    """Ours on purpose: the limit itself suffices, there it must be exceeded; a whole second of stall per second is the
    most there is, and a rule that asks for 100 % can fire.
    """
    case = watching("", "{pressure: {of: /A, avg: 10s, above: 80%}}", ({"/A": stalls(80)},), 0)
    assert play(tmp_path, capsys, case) == list(case.chosen)


def test_1_6_does_not_flicker(tmp_path: Path, capsys: Capture) -> None:
    """Ours on purpose: an alarm that holds is over only at four fifths of its limit; there one tick just below it
    begins the wait anew.
    """
    steps: tuple[Groups, ...] = tuple({"/A": stalls(each)} for each in (99, 99, 75, 99, 99))
    case = watching("", "{pressure: {of: /A, avg: 10s, above: 80%}}", steps, 3, wait="3s")
    assert play(tmp_path, capsys, case) == list(case.chosen)


@pytest.mark.parametrize(("together", "fires"), [(False, None), (True, 3.0)])
def test_1_6_clock_of_each_cgroup(tmp_path: Path, capsys: Capture, together: bool, fires: float | None) -> None:
    """Ours on purpose: each cgroup has its own clock; there two seconds of one and two of another are four."""
    first, second = stalls(99), stalls(1)
    steps: tuple[Groups, ...] = (
        *({"/A": first, "/B": first if together else second},) * 2,
        *({"/A": second, "/B": first},) * 2,
    )
    case = watching("", '{pressure: {of: "/*", avg: 10s, above: 80%}}', steps, fires, wait="3s")
    assert play(tmp_path, capsys, case) == list(case.chosen)


def test_d3_first_look(tmp_path: Path, capsys: Capture) -> None:
    """Ours on purpose: one look tells no direction; there the first is taken for a rise from nothing."""
    case = watching("", "{pressure_rising: {of: /A, above: 80%}}", ({"/A": stalls(90, 90)},), None)
    assert play(tmp_path, capsys, case) == []


def test_d3_compared_with_itself(tmp_path: Path, capsys: Capture) -> None:
    """Ours on purpose: B is high and steady since before; there it is compared with A, which was worse, and waits."""
    steps: tuple[Groups, ...] = (
        {"/A": stalls(100, 95), "/B": stalls(82, 85)},
        {"/A": stalls(5, 70), "/B": stalls(82, 85)},
    )
    case = watching("", '{pressure_rising: {of: "/*", above: 80%}}', steps, 2, every=2)
    assert play(tmp_path, capsys, case) == list(case.chosen)


def test_d4_needs_a_unit(tmp_path: Path, capsys: Capture) -> None:
    """Ours on purpose: a bare 1536 is refused, as it hardly means bytes; there it means MiB."""
    case = watching("", "{memory_above: {of: /A, above: 1536}}", ({"/A": Group(2 * GIB)},), None)
    write_step(tmp_path / "trace" / "0", case.steps["0"])
    (tmp_path / "rules.yaml").write_text(case.rules)
    assert main(["replay", "--config", str(tmp_path / "rules.yaml"), str(tmp_path / "trace")]) == 2
    assert "a size looks like 64MiB or 1GiB" in capsys.readouterr().err


def test_d5_first_look(tmp_path: Path, capsys: Capture) -> None:
    """Ours on purpose: what was scanned before the first look is long ago; there the first run counts as growth."""
    case = watching("", "{reclaim: {of: /A, within: 10s}}", ({"/A": Group(SIZE, files={"pgscan": 10_000})},), None)
    assert play(tmp_path, capsys, case) == []


def test_d6_without_swap(tmp_path: Path, capsys: Capture) -> None:
    """As there nobody is killed while there is memory enough. Ours on purpose: when as little memory is available as
    should be of swap somebody is, as nothing delays the end then; there the rule never fires on such hosts.
    """
    case = watching("", "{swap_free: {below: 20%}}", ({},), None)
    assert play(tmp_path / "plenty", capsys, case) == []
    case = watching("", "{swap_free: {below: 20%}}", ({},), 0, meminfo={"available": GIB, "anon": 30 * GIB})
    assert play(tmp_path / "short", capsys, case) == list(case.chosen)


def test_m5_seen_for_the_first_time(tmp_path: Path, capsys: Capture) -> None:
    """Ours on purpose: c1 is new, and nobody takes that for growth; there its average begins at a quarter, so that it
    seems to have grown fourfold.
    """
    when = "{all: [{exists: {of: /work.slice/c3}}]}"
    rules = config(ruleset(when, of_pool("{growth_or_size: {among_largest: 100%}}")))
    steps = {"0": Machine(pool(21, 20)), "30": Machine(pool(22, 20, 30))}
    assert replay(tmp_path, capsys, rules, steps).chosen == [(30, C3)]


def test_m6_decimals(tmp_path: Path, capsys: Capture) -> None:
    """Ours on purpose: 1.5 times is one and a half; there it is cut to once, and c1, which grew by a fifth, goes."""
    when = "{all: [{memory_above: {of: /work.slice/c1, above: 2300MiB}}]}"
    rules = config(ruleset(when, of_pool("{growth_or_size: {growth: 1.5, among_largest: 100%}}")))
    steps = {"0": Machine(pool(20, 20, 30)), "20": Machine(pool(24, 20, 30))}
    assert replay(tmp_path, capsys, rules, steps).chosen == [(20, C3)]


@pytest.mark.parametrize("share", ["0%", "1%"])
def test_m12(tmp_path: Path, capsys: Capture, share: str) -> None:
    """Ours on purpose: growers among none of the largest (there percentile 100, a mistake) means the very largest."""
    when = "{all: [{memory_above: {of: /work.slice/c1, above: 2000MiB}}]}"
    rules = config(ruleset(when, of_pool(f"{{growth_or_size: {{among_largest: {share}}}}}")))
    steps = {"0": Machine(pool(5, 20, 30)), "20": Machine(pool(21, 20, 30))}
    assert replay(tmp_path, capsys, rules, steps).chosen == [(20, C3)]


@pytest.mark.parametrize(
    ("policy", "swap"), [("{swap: {at_least: 20%}}", (1, 2, 3)), ("swap", (0, 0, 0))], ids=["S2", "S7"]
)
def test_s2_s7_below_the_floor(tmp_path: Path, capsys: Capture, policy: str, swap: tuple[int, ...]) -> None:
    """Ours on purpose: the alarm is confirmed, so there is a victim, by size where nobody has as much swap as the
    floor; there nobody is killed, again and again.
    """
    case = swapping("", policy, swap, "", 100 * KIB)
    case.steps["0"].groups[C2] = Group(2 * SIZE, files={"swap": swap[1]})
    assert play(tmp_path, capsys, case) == [(0, C2)]


def test_s4_no_data(tmp_path: Path, capsys: Capture) -> None:
    """Ours on purpose: a kernel that does not count swap per cgroup tells it per process; there nobody is killed and
    the next action is tried.
    """
    groups = {
        path: Group(SIZE, files={"swap": used * MIB}, without=("memory.swap.current",))
        for path, used in ((C1, 1), (C2, 3), (C3, 2))
    }
    rules = config(ruleset(ALWAYS, of_pool("swap")))
    assert replay(tmp_path, capsys, rules, {"0": Machine(groups)}).chosen == [(0, C2)]


def test_g1_seen_for_the_first_time(tmp_path: Path, capsys: Capture) -> None:
    """Ours on purpose: who is seen for the first time has no rate; its lifetime's count is not held against it."""
    before = {C1: Group(SIZE, files={"pgscan": 100}), C2: Group(SIZE, files={"pgscan": 100})}
    after = {
        C1: Group(SIZE, files={"pgscan": 110}),
        C2: Group(SIZE, files={"pgscan": 120}),
        C3: Group(SIZE, files={"pgscan": 90_000}),
    }
    rules = config(ruleset("{all: [{reclaim: {of: /work.slice/c1}}]}", of_pool("pgscan")))
    assert replay(tmp_path, capsys, rules, {"0": Machine(before), "1": Machine(after)}).chosen == [(1, C2)]


def test_x1(tmp_path: Path, capsys: Capture) -> None:
    """Nothing dies and nothing is marked: the trace is as before, and the choice is not made again while the rule
    pauses.
    """
    rules = config(ruleset(ALWAYS, of_pool("resident")))
    steps = {f"{second}": Machine(pool(3, 2, 1)) for second in range(3)}
    for name, machine in steps.items():
        write_step(tmp_path / "trace" / name, machine)
    files = {path: path.read_bytes() for path in (tmp_path / "trace").rglob("*") if path.is_file()}
    assert ask(tmp_path, capsys, rules).chosen == [(0, C1)]
    assert files == {path: path.read_bytes() for path in (tmp_path / "trace").rglob("*") if path.is_file()}
    assert not any(os.listxattr(path) for path in (tmp_path / "trace" / "0" / "cgroup").rglob("*"))


@pytest.mark.parametrize(
    ("among", "left"),
    [
        ("/*", {"/A": 7500, "/B": 750, "/E": 0}),
        ("/B/*", {"/B/C": 500, "/B/D": 400}),
        ("/E/*", {"/E/G": 2850, "/E/F": 1900}),
    ],
)
def test_c1(tmp_path: Path, capsys: Capture, among: str, left: dict[str, int]) -> None:
    """What memory.min and memory.low protect is not counted, handed down in proportion to what each asks for."""
    groups = {
        "/A": kept(10_000, 2500, 2000),
        "/B": kept(1000, 250, 200),
        "/B/C": kept(500),
        "/B/D": kept(400),
        "/E": kept(250, 1000, 200),
        "/E/F": kept(2000, low=2000),
        "/E/G": kept(3000, low=3000),
    }
    policy = "{growth_or_size: {size: 100%}}"
    rules = config(ruleset(ALWAYS, f'from: ["{among}"], level: cgroup, policy: {policy}'))
    (line,) = replay(tmp_path, capsys, rules, {"0": Machine(groups)}).lines
    assert [(each["cgroup"], each["score"] // MIB) for each in line["ranking"]] == list(left.items())


def kept(current: int, least: int = 0, low: int = 0) -> Group:
    """A cgroup with memory.current, memory.min and memory.low in MiB."""
    return Group(SIZE, files={"current": current * MIB, "min": least * MIB, "low": low * MIB})


def test_e2_several_rulesets(tmp_path: Path, capsys: Capture) -> None:
    """Of two that fire the earlier one of the file acts, and the later one does not kill for the same shortage."""
    rules = config(*(ruleset(ALWAYS, f"from: [{path}], level: cgroup", name=path[-2:]) for path in (C2, C1)))
    assert replay(tmp_path, capsys, rules, {"0": Machine(pool(3, 2))}).chosen == [(0, C2)]


def test_e2_broken_file(tmp_path: Path, capsys: Capture) -> None:
    """One mistake, and none of the file's rules holds: nothing is decided by half of it."""
    write_step(tmp_path / "trace" / "0", Machine(pool(3, 2)))
    good = ruleset(ALWAYS, of_pool("resident"))
    (tmp_path / "rules.yaml").write_text(config(good, ruleset(ALWAYS, of_pool("reszident"), name="two")))
    assert main(["replay", "--config", str(tmp_path / "rules.yaml"), str(tmp_path / "trace")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "rules.yaml:" in captured.err


def test_e4(tmp_path: Path, capsys: Capture) -> None:
    """Patterns with several cgroups each: every one of the seven is judged for itself, and nobody beside them."""
    slices = ("/a.slice", "/b.slice", "/c.slice", "/system.slice")
    services = ("/system.slice/d.service", "/system.slice/e.service", "/system.slice/f.service")
    groups: Groups = {path: many(200, path)[path] for path in (*slices, *services, "/g.scope", "/system.slice/h.scope")}
    case = watching("", '{dying_descendants: {of: "/*.slice,/system.slice/*.service", above: 100}}', (groups,), 0)
    answer = replay(tmp_path, capsys, case.rules, case.steps)
    (evidence,) = answer.lines[0]["detections"][0]["evidence"]
    assert sorted(evidence["cgroups"]) == sorted((*slices, *services))
    assert answer.chosen == list(case.chosen)


@pytest.mark.parametrize(("pattern", "path", "fits"), FITTING)
def test_e7_paths(tmp_path: Path, capsys: Capture, pattern: str, path: str, fits: bool) -> None:
    """Which cgroup a pattern means."""
    fires = 0.0 if fits else None
    case = watching("", dying("above: 100", pattern), (many(200, path),), fires)
    assert play(tmp_path, capsys, case) == list(case.chosen)


@pytest.mark.parametrize(("written", "size"), SIZES)
def test_e7_sizes(tmp_path: Path, capsys: Capture, written: str, size: int) -> None:
    """A size means its bytes: that many are not above it, a page more is."""
    for name, used, fires in (("equal", size, None), ("more", size + 4096, 0.0)):
        group = Group(SIZE, files={"current": used})
        case = watching("", f"{{memory_above: {{of: /A, above: {written}}}}}", ({"/A": group},), fires)
        assert play(tmp_path / name, capsys, case) == list(case.chosen)
