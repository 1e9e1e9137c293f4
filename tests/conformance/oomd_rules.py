"""The conformance catalogue of the rules of Meta's oomd where we choose as it does: trees, inputs, expected victims.

Its fixtures rank by name in reverse; where only the way down is asked, the sizes here are in the order of the names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.conformance.catalogue import ALWAYS, SIZE, Group, Groups, Machine, config, ruleset
from tests.fakes.proc_tree import GIB, MIB

KIB = 1024
PREFER, AVOID = ("user.oomd_prefer",), ("user.oomd_avoid",)
NEVER: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Case:
    """One row of the catalogue."""

    name: str
    """The catalogue's number, and a word where it has several rows in one."""
    rules: str
    steps: dict[str, Machine]
    chosen: tuple[tuple[float, str], ...]
    """Time and cgroup of whoever is to be killed."""


def at_once(name: str, choose: str, groups: Groups, victim: str, **machine: Any) -> Case:
    """A case that asks whom, of one step."""
    steps = {"0": Machine(groups, **machine)}
    return Case(name, config(ruleset(ALWAYS, choose)), steps, ((0, victim),) if victim else NEVER)


def going_down(name: str, groups: Groups, victim: str, *, recursive: str = "true") -> Case:
    """A case of targeting among all cgroups."""
    choose = f'from: ["/*"], level: cgroup, policy: resident, recursive: {recursive}'
    return at_once(name, choose, groups, victim)


_A = {"/A/X": Group(SIZE), "/A/Z": Group(2 * SIZE)}
_AB = {**_A, "/B/F": Group(4 * SIZE)}
_DEEP = {**_A, "/B/F": Group(2 * SIZE), "/B/M/V": Group(SIZE), "/B/M/Z": Group(3 * SIZE)}
_WHOLE = {**_AB, "/Y/B": Group(SIZE), "/Y/M/C": Group(4 * SIZE), "/Y/M/D": Group(2 * SIZE)}

TARGETING = (
    going_down("R1", _AB, "/B/F"),
    going_down("R2", _AB, "/B", recursive="false"),
    going_down("R4", {**_WHOLE, "/Y/M": Group(files={"oom_group": True})}, "/Y/M"),
    going_down("R4-without-group", _WHOLE, "/Y/M/C"),
    going_down("R5", {**_DEEP, "/Q": Group(20 * SIZE, AVOID), "/B/M/V": Group(SIZE, PREFER)}, "/B/M/V"),
    going_down("R5-without-marks", {**_DEEP, "/Q": Group(20 * SIZE)}, "/Q"),
    going_down("R7", {**_DEEP, "/B": Group(marks=PREFER), "/B/M/Z": Group(3 * SIZE, AVOID)}, "/B/M/V"),
    going_down("R7-against-size", {**_DEEP, "/A/X": Group(9 * SIZE), "/B": Group(marks=PREFER)}, "/B/M/Z"),
    going_down("R8", {**_AB, "/B/F": Group(4 * SIZE, files={"populated": False})}, "/A/Z"),
    going_down("R10", {"/B/F": Group(4 * SIZE, without=("pids.current",))}, "/B/F"),
    going_down("R10-one-task", {"/B/F": Group(4 * SIZE, files={"tasks": 1})}, "/B/F"),
    # Preference counts among siblings only, and of both marks the one that offers wins.
    going_down("1.7-marks-are-local", {**_AB, "/A/X": Group(SIZE, PREFER)}, "/B/F"),
    going_down("1.7-prefer-beats-avoid", {"/A": Group(2 * SIZE), "/B": Group(SIZE, AVOID + PREFER)}, "/B"),
    going_down("1.7-avoid-is-last-resort", {"/A": Group(2 * SIZE, AVOID)}, "/A"),
    going_down("1.7-nothing-of-its-own", {**_AB, "/C": Group(0, files={"file": 20 * SIZE})}, "/B/F"),
    going_down("1.7-trusted", {"/A": Group(2 * SIZE, ("trusted.oomd_avoid",), 1000), "/B": Group(SIZE)}, "/B"),
)


def watching(name: str, when: str, groups: tuple[Groups, ...], fires: float | None, **more: Any) -> Case:
    """A case that asks when: one step a second (``every``), and somebody beside who would go."""
    every, wait = more.pop("every", 1), more.pop("wait", "0s")
    victim = {"/victim": Group(SIZE)}
    steps = {f"{number * every:g}": Machine({**victim, **each}, **more) for number, each in enumerate(groups)}
    rules = config(ruleset(f"{{all: [{when}]}}", "from: [/victim], level: cgroup", wait=wait))
    return Case(name, rules, steps, NEVER if fires is None else ((fires, "/victim"),))


def stalls(avg10: float, avg60: float = 0.0) -> Group:
    """A cgroup under pressure, per cent."""
    return Group(SIZE, files={"averages": (avg10, avg60, 0.0)})


def scanned(pages: int) -> Groups:
    """A cgroup of which so many pages were scanned since boot."""
    return {"/A": Group(SIZE, files={"pgscan": pages})}


_HOT = "{pressure: {of: /A, kind: full, avg: 10s, above: 80%}}"
_HOT_IO = "{pressure: {of: /A, resource: io, kind: full, avg: 10s, above: 80%}}"
_ANY_HOT = '{pressure: {of: "/*", kind: full, avg: 10s, above: 80%}}'
_RISING = "{pressure_rising: {of: /A, above: 80%}}"
_RECLAIM = "{reclaim: {of: /A, within: 10s}}, {memory_above: {of: /B, above: 1GiB}}"
_SCANNED_ONCE = (scanned(100), scanned(105))


def above(limit: str, kind: str = "total") -> str:
    """memory_above of one cgroup."""
    return f"{{memory_above: {{of: /A, kind: {kind}, above: {limit}}}}}"


def dying(limit: str, of: str = "/A") -> str:
    """dying_descendants."""
    return f'{{dying_descendants: {{of: "{of}", {limit}}}}}'


def many(count: int, path: str = "/A") -> Groups:
    """A cgroup with so many dying ones below it."""
    return {path: Group(SIZE, files={"dying": count})}


_BY_FILES = {"/A": Group(GIB, files={"file": GIB})}
_SWAP_KIB = 20_971_512

DETECTORS = (
    watching("D1", _HOT, ({"/A": stalls(99.99)},), 0),
    watching("D1-io", _HOT_IO, ({"/A": stalls(99.99)},), 0),
    watching("D2", _HOT, ({"/A": stalls(1.11)},), None),
    watching("D2-one-of-several", _ANY_HOT, ({"/A": stalls(1.11), "/B": stalls(99.99), "/C": stalls(2.0)},), 0),
    watching("1.6-duration", _HOT, ({"/A": stalls(99.99)},) * 5, 3, wait="3s"),
    watching("1.6-falls-between", _HOT, tuple({"/A": stalls(each)} for each in (99, 99, 5, 99, 99)), None, wait="3s"),
    watching("D3", _RISING, ({"/A": stalls(90, 90)}, {"/A": stalls(95, 90)}), 2, every=2),
    watching("D3-low", _RISING, ({"/A": stalls(1.11, 1.11)},) * 2, None, every=2),
    watching("D3-falls-fast", _RISING, ({"/A": stalls(99, 90)}, {"/A": stalls(82, 90)}), None, every=2),
    watching("D3-only-lately", _RISING, ({"/A": stalls(90, 20)}, {"/A": stalls(95, 20)}), None, every=2),
    watching("D4", above("1536MiB"), ({"/A": Group(2 * GIB)},), 0),
    watching("D4-less", above("1536MiB"), ({"/A": Group(GIB)},), None),
    watching("D4-equal", above("1536MiB"), ({"/A": Group(1536 * MIB)},), None),
    watching("D4-share", above("10%"), ({"/A": Group(2 * GIB)},), 0, meminfo={"total": 8 * GIB, "available": GIB}),
    watching("D4-anon", above("1536MiB", "anon"), ({"/A": Group(2 * GIB)},), 0),
    watching("D4-anon-less", above("1536MiB", "anon"), (_BY_FILES,), None),
    watching("D4-total-of-files", above("1536MiB"), (_BY_FILES,), 0),
    watching("D4-both", f"{above('1536MiB')}, {above('1536MiB', 'anon')}", (_BY_FILES,), None),
    watching("D5", "{reclaim: {of: /A, within: 10s}}", _SCANNED_ONCE, 1),
    watching("D5-within", _RECLAIM, (*_SCANNED_ONCE, {**scanned(105), "/B": Group(2 * GIB)}), 8, every=4),
    watching("D5-long-ago", _RECLAIM, (*_SCANNED_ONCE, {**scanned(105), "/B": Group(2 * GIB)}), None, every=20),
    watching(
        "D6",
        "{swap_free: {below: 20%}}",
        ({},),
        0,
        meminfo={"swap_total": _SWAP_KIB * KIB, "swap_free": (_SWAP_KIB - 20_971_440) * KIB},
    ),
    watching(
        "D6-enough",
        "{swap_free: {below: 20%}}",
        ({},),
        None,
        meminfo={"swap_total": _SWAP_KIB * KIB, "swap_free": (_SWAP_KIB - 3_310_136) * KIB},
    ),
    watching("D8", "{exists: {of: /A}}", ({"/A": Group(SIZE)},), 0),
    watching("D8-gone", "{exists: {of: /A}}", ({"/B": Group(SIZE)},), None),
    watching("D8-negated", "{exists: {of: /A, absent: true}}", ({"/A": Group(SIZE)},), None),
    watching("D8-negated-gone", "{exists: {of: /A, absent: true}}", ({"/B": Group(SIZE)},), 0),
    watching("D8-wildcard", '{exists: {of: "/no/*,/A/B*"}}', ({"/A/B1": Group(SIZE)},), 0),
    watching("D8-wildcard-negated", '{exists: {of: "/no/*,/A/B*", absent: true}}', ({"/A/B1": Group(SIZE)},), None),
    watching("D9-at-most", dying("at_most: 100"), (many(123),), None),
    watching("D9-at-most-fewer", dying("at_most: 100"), (many(90),), 0),
    watching("D9-above", dying("above: 100"), (many(123),), 0),
    watching("D9-above-fewer", dying("above: 100"), (many(90),), None),
    watching("D9-root", dying("above: 29", "/"), (many(30, "/"),), 0),
    watching("D9-any", dying("above: 100", "/*"), ({**many(1), **many(101, "/B")},), 0),
)


def pool(*sizes: float, marks: str = "", beside: float = 0.0) -> Groups:
    """The siblings c1, c2, c3 … with their letters (p prefers, a avoids), and one outside of their slice."""
    letters = {"p": PREFER, "a": AVOID}
    groups = {
        f"/work.slice/c{number}": Group(int(size * SIZE), letters.get(marks[number - 1 : number], ()))
        for number, size in enumerate(sizes, 1)
    }
    return {**groups, **({"/sibling.slice": Group(int(beside * SIZE), pid=888)} if beside else {})}


def of_pool(policy: str) -> str:
    """The choice among those."""
    return f'from: ["/work.slice/*", /sibling.slice], level: cgroup, policy: {policy}'


def held(name: str, groups: Groups, victim: str) -> Case:
    """A case of kill_by_memory_size_or_growth in which nobody grew."""
    return at_once(name, of_pool("growth_or_size"), groups, victim)


def grown(name: str, share: str, victim: str) -> Case:
    """c1 grew from 5 to 21 units and none of the others did; asked as soon as it did."""
    when = "{all: [{memory_above: {of: /work.slice/c1, above: 2000MiB}}]}"
    chosen = ruleset(when, of_pool(f"{{growth_or_size: {{among_largest: {share}}}}}"))
    steps = {"0": Machine(pool(5, 20, 30)), "20": Machine(pool(21, 20, 30))}
    return Case(name, config(chosen), steps, ((20, victim),))


def half_against_growth() -> Case:
    """c1 holds more than half of the pool all the time while c2 grows fourfold."""
    when = "{all: [{memory_above: {of: /work.slice/c2, above: 1000MiB}}]}"
    rules = config(ruleset(when, of_pool("{growth_or_size: {among_largest: 100%}}")))
    steps = {"0": Machine(pool(60, 5, 20)), "20": Machine(pool(60, 20, 20))}
    return Case("1.7-half-before-growth", rules, steps, ((20, C1),))


C1, C2, C3, BESIDE = "/work.slice/c1", "/work.slice/c2", "/work.slice/c3", "/sibling.slice"

SIZE_OR_GROWTH = (
    held("M1", pool(60, 20, 20), C1),
    held("M2", pool(60, 20, 20, marks="-p-"), C2),
    held("M3", pool(60, 30, 20, marks="a--"), C2),
    held("M4-others-avoided", pool(60, 20, 20, marks="-aa"), C1),
    held("M4-all-preferred", pool(60, 20, 20, marks="ppp"), C1),
    held("M4-mixed", pool(60, 20, 20, marks="pap"), C1),
    held("M5", pool(21, 20, 30), C3),
    grown("M6", "50%", C1),
    half_against_growth(),
    grown("M6-not-among-the-largest", "20%", C3),
    held("M9", pool(21, 99, 30, marks="pp-"), C2),
    held("M9-unmarked", pool(21, 99, 30), C2),
    held("M10", pool(21, 20, 30, beside=100), BESIDE),
)


def swapping(name: str, policy: str, swap: tuple[int, ...], victim: str, total: int = 0, beside: int = 0) -> Case:
    """A case of kill_by_swap_usage: bytes of each sibling, all of the same size."""
    groups = {f"/work.slice/c{number}": Group(SIZE, files={"swap": used}) for number, used in enumerate(swap, 1)}
    outside = {"/sibling.slice": Group(SIZE, files={"swap": beside})} if beside else {}
    total = total or 2 * sum(swap)
    meminfo = {"swap_total": total, "swap_free": max(0, total - sum(swap))}
    return at_once(name, of_pool(policy), {**groups, **outside}, victim, meminfo=meminfo)


SWAP = (
    swapping("S1", "swap", (20 * SIZE, 60 * SIZE, 40 * SIZE), C2),
    swapping("S2", "{swap: {at_least: 20%}}", (20 * KIB, 60 * KIB, 40 * KIB), C2, 100 * KIB),
    swapping("S3", "swap", (20 * SIZE, 60 * SIZE, 40 * SIZE), BESIDE, beside=70 * SIZE),
)


def stalled(name: str, averages: tuple[tuple[float, float], ...], victim: str, beside: float = 0.0) -> Case:
    """A case of kill_by_pressure: avg10 and avg60 of each sibling."""
    groups = {f"/work.slice/c{number}": stalls(*each) for number, each in enumerate(averages, 1)}
    outside = {"/sibling.slice": stalls(beside, beside)} if beside else {}
    return at_once(name, of_pool("{pressure: {resource: io}}"), {**groups, **outside}, victim)


def scanning(name: str, victim: str, *, scans: bool = True, beside: int = 0) -> Case:
    """A case of kill_by_pg_scan, asked when pages are scanned: never at the first look."""
    before, more = (10_000, 5000, 6000), (10, 30, 50) if scans else (0, 0, 0)
    steps = {}
    for second in range(3):
        # They stop after the second look, so that a choice that came late would find nobody.
        times = min(second, 1)
        counts = [at + times * by for at, by in zip(before, more, strict=True)]
        groups = {f"/work.slice/c{number}": Group(SIZE, files={"pgscan": at}) for number, at in enumerate(counts, 1)}
        outside = {"/sibling.slice": Group(SIZE, files={"pgscan": 700 + times * beside})} if beside else {}
        steps[f"{second}"] = Machine({**groups, **outside})
    rules = config(ruleset('{all: [{reclaim: {of: "/work.slice/*", within: 10s}}]}', of_pool("pgscan")))
    return Case(name, rules, steps, ((1, victim),) if victim else NEVER)


OTHERS = (
    stalled("P1", ((60, 60), (50, 70), (80, 80)), C3),
    stalled("P1-beside", ((60, 60), (50, 70), (80, 80)), BESIDE, beside=99),
    stalled("P1-mean", ((60, 60), (90, 20), (40, 90)), C3),
    scanning("G1", C3),
    scanning("G1-beside", BESIDE, beside=100),
    scanning("G1-nothing-scanned", "", scans=False),
)

CASES = (*TARGETING, *DETECTORS, *SIZE_OR_GROWTH, *SWAP, *OTHERS)

FITTING = (
    ("/", "/", True),
    ("/a.slice", "/a.slice", True),
    ("/a.slice", "/a.slice/b", False),
    ("/*", "/a", True),
    ("/*", "/a/b", False),
    ("/a/*/c", "/a/b/c", True),
    ("/a/*/c", "/a/b/b/c", False),
    ("/a/b*", "/a/bc", True),
    ("/a/?c", "/a/bc", True),
    ("/a/[bc]", "/a/c", True),
    ("/a/[!bc]", "/a/c", False),
    ("/no,/a", "/a", True),
)
"""E7: pattern, the path of a cgroup that there is, and whether it fits."""

SIZES = (
    ("1536MiB", 1536 * MIB),
    ("1.5G", 1536 * MIB),
    ("1.5GiB", 1536 * MIB),
    ("1572864K", 1536 * MIB),
    ("0.5T", 512 * GIB),
    ("512B", 512),
)
"""E7: a size as it is written, and its bytes."""
