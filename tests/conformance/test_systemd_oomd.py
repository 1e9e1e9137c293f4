"""The vectors of systemd-oomd's own tests, replayed: whom it chooses, in which order, and who may be spared.

Its counters of kills on the cgroup (1, 2 and then 2, 4) are written by whoever kills; no trace can show them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oomd.__main__ import main
from tests.conformance.catalogue import (
    ALWAYS,
    SIZE,
    Answer,
    Group,
    Groups,
    Machine,
    config,
    replay,
    ruleset,
    write_step,
)
from tests.fakes.proc_tree import MIB

if TYPE_CHECKING:
    from pathlib import Path

Capture = pytest.CaptureFixture[str]

KIB = 1024
AVOID, OMIT = ("user.oomd_avoid",), ("user.oomd_omit",)
MEMINFO = {
    "total": 32_495_256 * KIB,
    "available": 21_777_088 * KIB,
    "anon": 6_000_000 * KIB,
    "swap_total": 8_388_604 * KIB,
    "swap_free": 7604 * KIB,
}
SWAP = {"derp": 60, "sheep": 40, "herp": 20, "boop": 11, "zupa": 10}
"""Mebibytes in swap."""
SWAP_FLOOR = "{swap: {at_least: 5%}}"


def leaves(swap: dict[str, int], marks: dict[str, tuple[str, ...]], owners: dict[str, int], *, above: str) -> Groups:
    """The herd beneath one cgroup, each with so much in swap."""
    return {
        f"{above}/{name}.service": Group(
            SIZE, marks.get(name, ()), owners.get(name, 0), files={"swap": amount * MIB, "pgscan": 100}
        )
        for name, amount in swap.items()
    }


def asked(
    folder: Path,
    capsys: Capture,
    groups: Groups,
    *,
    policy: str = SWAP_FLOOR,
    among: str = "/herp.slice/*",
    also: str = "",
    swap_total: int = 800,
) -> Answer:
    """The answer for these cgroups on a machine of which swap is nearly full."""
    rules = config(
        ruleset("{all: [{swap_free: {below: 10%}}]}", f'from: ["{among}"], level: cgroup, policy: {policy}'), also=also
    )
    meminfo = {"swap_total": swap_total * MIB, "swap_free": swap_total * MIB // 20}
    return replay(folder, capsys, rules, {"0": Machine(groups, meminfo)})


def names(answer: Answer) -> list[str]:
    """The order without what is around the names."""
    return [path.rpartition("/")[2].removesuffix(".service") for path in answer.order()]


def test_meminfo(tmp_path: Path, capsys: Capture) -> None:
    """What is in use of memory and of swap; swap is nearly full and memory is not, so the rule of both is silent."""
    both = "{all: [{memory_available: {below: 10%}}, {swap_free: {below: 10%}}]}"
    steps = {"0": Machine({"/a": Group(SIZE)}, MEMINFO)}
    answer = replay(tmp_path / "both", capsys, config(ruleset(both, "level: cgroup")), steps)
    status = answer.lines[0]["status"]
    assert status["mem_total_bytes"] - status["mem_available_bytes"] == 10_975_404_032
    assert status["swap_total_bytes"] - status["swap_free_bytes"] == 8_582_144_000
    assert answer.chosen == []
    swap = config(ruleset("{all: [{swap_free: {below: 10%}}]}", "level: cgroup"))
    assert replay(tmp_path / "swap", capsys, swap, steps).chosen == [(0, "/a")]


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("MemTotal", b""),
        ("MemAvailable", b""),
        ("SwapFree", b""),
        ("MemTotal", b"MemTotal:       32495256 kB trailing\n"),
        ("SwapFree", b"SwapFree:       7604 pages\n"),
        ("MemAvailable", b"MemAvailable:   many kB\n"),
    ],
)
def test_broken_meminfo(tmp_path: Path, capsys: Capture, line: str, instead: bytes) -> None:
    """A field that is missing, or followed by something else, is refused by its name; nothing is decided by half of
    the truth.
    """
    proc, _ = write_step(tmp_path / "trace" / "0", Machine({"/a": Group(SIZE)}, MEMINFO))
    rows = (proc.root / "meminfo").read_bytes().splitlines(keepends=True)
    broken = b"".join(instead if row.startswith(line.encode() + b":") else row for row in rows)
    (proc.root / "meminfo").write_bytes(broken)
    (tmp_path / "rules.yaml").write_text(config(ruleset(ALWAYS, "level: cgroup")))
    assert main(["replay", "--config", str(tmp_path / "rules.yaml"), str(tmp_path / "trace")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"meminfo: {line} is missing or malformed" in captured.err


@pytest.mark.parametrize(("limit", "avg10", "fires"), [("80%", 99.99, True), ("80%", 1.11, False)])
def test_pressure(tmp_path: Path, capsys: Capture, limit: str, avg10: float, fires: bool) -> None:
    """Above its limit for as long as it must be, and not a step sooner."""
    when = f"{{all: [{{pressure: {{of: /herp.slice, avg: 10s, above: {limit}}}}}]}}"
    rules = config(ruleset(when, 'from: ["/herp.slice/*"], level: cgroup', wait="2s"))
    groups = {"/herp.slice": Group(files={"averages": (avg10, 0, 0)}), "/herp.slice/a": Group(SIZE)}
    answer = replay(tmp_path, capsys, rules, {f"{second}": Machine(groups) for second in range(4)})
    assert answer.chosen == ([(2, "/herp.slice/a")] if fires else [])


def test_order_by_swap(tmp_path: Path, capsys: Capture) -> None:
    """Most swap first."""
    answer = asked(tmp_path, capsys, leaves(SWAP, {}, {}, above="/herp.slice"), policy="swap")
    assert names(answer) == ["derp", "sheep", "herp", "boop", "zupa"]
    assert answer.chosen == [(0, "/herp.slice/derp.service")]


def test_order_by_swap_with_marks(tmp_path: Path, capsys: Capture) -> None:
    """Whoever is avoided comes last, and who is omitted is not there."""
    marks: dict[str, tuple[str, ...]] = {"derp": OMIT, "sheep": AVOID}
    answer = asked(tmp_path, capsys, leaves(SWAP, marks, {}, above="/herp.slice"), policy="swap")
    assert names(answer) == ["herp", "boop", "zupa", "sheep"]
    why = {each["comm"]: each["why"] for each in answer.lines[0]["rejected"]}
    assert why["derp.service"] == "is omitted: its cgroup is marked user.oomd_omit"


def test_omit_beats_avoid(tmp_path: Path, capsys: Capture) -> None:
    """Of both marks the one that spares more counts."""
    answer = asked(tmp_path, capsys, leaves(SWAP, {"derp": AVOID + OMIT}, {}, above="/herp.slice"))
    assert "derp" not in names(answer)


def test_below_the_floor(tmp_path: Path, capsys: Capture) -> None:
    """Ours on purpose: swap in many small pieces, each below 5 % of all, and still somebody goes (the largest); there
    the emergency is seen and nobody is ever killed.
    """
    groups = leaves(SWAP, {}, {}, above="/herp.slice")
    groups["/herp.slice/boop.service"] = Group(2 * SIZE, files={"swap": 11 * MIB})
    answer = asked(tmp_path, capsys, groups, swap_total=8000)
    assert answer.chosen == [(0, "/herp.slice/boop.service")]


def test_restricted_to_a_prefix(tmp_path: Path, capsys: Capture) -> None:
    """Nobody outside of the monitored cgroup is taken, however much he swaps."""
    inside = {name: SWAP[name] for name in ("herp", "boop")}
    groups = {
        **leaves({"derp": 60, "sheep": 40}, {}, {}, above="/other.slice"),
        **leaves(inside, {}, {}, above="/herp.slice"),
    }
    answer = asked(tmp_path, capsys, groups, policy="swap")
    assert names(answer) == ["herp", "boop"]
    assert answer.chosen == [(0, "/herp.slice/herp.service")]


PGSCAN = {"herp": (67, 100), "sheep": (68, 100), "zupa": (3, 2), "derp": (99, 100), "boop": (100, 100)}
"""Pages scanned since boot at the first look and a second later."""


def scanned(at: int, names: tuple[str, ...] = tuple(PGSCAN)) -> Groups:
    """The herd at one of the two looks."""
    return {f"/herp.slice/{name}.service": Group(SIZE, files={"pgscan": PGSCAN[name][at]}) for name in names}


def test_order_by_pgscan(tmp_path: Path, capsys: Capture) -> None:
    """By pages scanned in the last second. Ours on purpose: zupa's counter went back, so it is another cgroup than
    before, and as with whoever is seen for the first time nothing is held against it; there its whole count of 2 is its
    rate, which puts it before derp.
    """
    rules = config(
        ruleset(
            '{all: [{reclaim: {of: "/herp.slice/*", within: 30s}}]}',
            'from: ["/herp.slice/*"], level: cgroup, policy: pgscan',
        )
    )
    answer = replay(tmp_path, capsys, rules, {"0": Machine(scanned(0)), "1": Machine(scanned(1))})
    assert names(answer)[:3] == ["herp", "sheep", "derp"]
    assert set(names(answer)[3:]) == {"boop", "zupa"}
    assert answer.chosen == [(1, "/herp.slice/herp.service")]


def test_no_reclaim_lately(tmp_path: Path, capsys: Capture) -> None:
    """Pressure without a page scanned in the last 30 s is what a kill left behind: nobody goes for it."""
    when = "{all: [{pressure: {of: /herp.slice, avg: 10s, above: 20%}}, {reclaim: {of: /herp.slice, within: 30s}}]}"
    rules = config(ruleset(when, 'from: ["/herp.slice/*"], level: cgroup, policy: pgscan', wait="2s"))
    steps = {
        f"{second}": Machine(
            {"/herp.slice": Group(files={"averages": (90, 90, 90), "pgscan": 500}), "/herp.slice/a": Group(SIZE)}
        )
        for second in range(0, 8, 2)
    }
    assert replay(tmp_path, capsys, rules, steps).chosen == []


OWNERSHIP = (
    # owner of the cgroup, owner of the monitored one, whether its word counts
    ("root-of-root", 0, 0, True),
    ("user-of-root", 1000, 0, False),
    ("user-of-the-same", 1000, 1000, True),
    ("user-of-another", 1000, 1001, False),
    ("root-of-user", 0, 1000, True),
)


@pytest.mark.parametrize("mark", [AVOID, OMIT], ids=["avoid", "omit"])
@pytest.mark.parametrize(
    ("owner", "monitored", "counts"), [each[1:] for each in OWNERSHIP], ids=[each[0] for each in OWNERSHIP]
)
def test_ownership(
    tmp_path: Path, capsys: Capture, mark: tuple[str, ...], owner: int, monitored: int, counts: bool
) -> None:
    """A mark to be spared counts where root set it, or whoever owns the cgroup beneath which the choice is made. Ours
    on purpose: whatever the rule asks about; there, when swap runs out, root's marks alone count.
    """
    groups = leaves({"derp": 60, "herp": 20}, {"derp": mark}, {"derp": owner}, above="/user.slice")
    groups["/user.slice"] = Group(owner=monitored)
    answer = asked(tmp_path, capsys, groups, policy="swap", among="/user.slice/*")
    assert answer.chosen == [(0, "/user.slice/herp.service" if counts else "/user.slice/derp.service")]


@pytest.mark.parametrize("value", ["0", "no", "maybe", ""])
def test_value_of_a_mark(tmp_path: Path, capsys: Capture, value: str) -> None:
    """A mark that does not say yes is none."""
    groups = leaves({"derp": 60, "herp": 20}, {"derp": (f"user.oomd_omit={value}",)}, {}, above="/herp.slice")
    if not value:
        groups["/herp.slice/derp.service"] = Group(SIZE, ("user.oomd_omit= ",), files={"swap": 60 * MIB})
    answer = asked(tmp_path, capsys, groups, policy="swap")
    assert answer.chosen == [(0, "/herp.slice/derp.service")]


def test_marks_are_not_inherited(tmp_path: Path, capsys: Capture) -> None:
    """What a slice says of itself says nothing of the services in it."""
    groups = leaves({"derp": 60, "herp": 20}, {}, {}, above="/herp.slice/inner.slice")
    groups["/herp.slice/inner.slice"] = Group(marks=AVOID)
    answer = asked(tmp_path, capsys, groups, policy="swap", among="/herp.slice/inner.slice/*")
    assert answer.chosen == [(0, "/herp.slice/inner.slice/derp.service")]


def workload(second: int, marks: dict[str, tuple[str, ...]]) -> Machine:
    """A slice with a hog beneath memory.high (bloat), a lesser one (munch) and a sleeper (chill)."""
    pages = {"bloat": 4000 * second, "munch": 900 * second, "chill": 0}
    sizes = {"bloat": 3 * MIB, "munch": 12 * MIB, "chill": 40 * MIB}
    stall = {"averages": (min(90, 30 * second), 10, 0), "pgscan": sum(pages.values())}
    groups = {"/workload.slice": Group(files=stall)}
    for name, size in sizes.items():
        groups[f"/workload.slice/{name}.service"] = Group(size, marks.get(name, ()), files={"pgscan": pages[name]})
    return Machine(groups)


@pytest.mark.parametrize(
    ("marks", "wait", "chosen"),
    [
        ({}, "2s", [(3, "bloat")]),
        ({"bloat": AVOID}, "2s", [(3, "munch")]),
        ({"bloat": OMIT}, "2s", [(3, "munch")]),
        ({}, "3s", [(4, "bloat")]),
        ({}, "1h", []),
    ],
    ids=["bloat", "avoid", "omit", "of-three-seconds", "lasting-an-hour"],
)
def test_test_55(
    tmp_path: Path, capsys: Capture, marks: dict[str, tuple[str, ...]], wait: str, chosen: list[tuple[float, str]]
) -> None:
    """The hog of the slice dies once its slice has stalled for long enough, the next one where the hog is marked; the
    sleeper, the largest of all, lives.
    """
    stalls = "{pressure: {of: /workload.slice, avg: 10s, above: 20%}}"
    when = f"{{all: [{stalls}, {{reclaim: {{of: /workload.slice, within: 30s}}}}]}}"
    rules = config(ruleset(when, 'from: ["/workload.slice/*"], level: cgroup, policy: pgscan', wait=wait))
    answer = replay(tmp_path, capsys, rules, {f"{second}": workload(second, marks) for second in range(7)})
    assert answer.chosen == [(time, f"/workload.slice/{name}.service") for time, name in chosen]
