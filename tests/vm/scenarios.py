"""The scenarios: who runs in the guest, who should die, what counts as wrong. Data; ``guest/actors.py`` plays it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Actor = dict[str, Any]
SESSION = "user-1000.slice"
OTHER_SESSION = "user-1001.slice"
SYSTEM = "system.slice"
DATABASE_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way to run out of memory (or not to)."""

    name: str
    about: str
    cast: Callable[[int], list[Actor]]
    """The actors, for a guest of so many MiB; the database is among them."""
    right: frozenset[str]
    """Names (comm) whose death is right; empty: nobody should die."""
    swap: str = "none"
    """The natural swap setting."""
    watch: tuple[str, ...] = ()
    """The run ends ``settle_s`` after the death of one of these; else at ``max_s``."""
    max_s: float = 60.0
    settle_s: float = 4.0
    kernel_may: bool = False
    """Whether a kernel OOM kill is acceptable."""
    must_kill: bool = True
    """Whether somebody must die at all."""
    prepare: tuple[tuple[str, ...], ...] = field(default=())
    rulesets: str = ""
    """Rulesets that ours has beside the two of its shipped configuration; nobody else has the like of them."""
    largest: bool = True
    """Whether the right one is the largest at any time: then ours chooses by size where its backends are compared."""


def _actor(options: Actor, *, slice_: str = SESSION, unit: str = "", **more: Any) -> Actor:
    unit = unit or ("" if slice_ == SYSTEM else "session-") + options["name"]
    return {"options": options, "slice": slice_, "unit": unit, **more}


def _database(memory_mib: int, share: float = DATABASE_SHARE) -> Actor:
    options = {"do": "database", "name": "database", "size_mib": int(memory_mib * share)}
    return _actor(options, slice_=SYSTEM)


def _leaker(**options: Any) -> Actor:
    return _actor({"do": "leak", "name": "leaker", "rate_mib": 50, **options})


def _leak(memory_mib: int) -> list[Actor]:
    return [_database(memory_mib), _leaker()]


def _stubborn(memory_mib: int) -> list[Actor]:
    return [_database(memory_mib), _leaker(ignore_term=True)]


def _burst(memory_mib: int) -> list[Actor]:
    return [_database(memory_mib), _leaker(rate_mib=0, touch=0)]


def _siblings(memory_mib: int) -> list[Actor]:
    # Each somewhat larger than the database: whoever goes by size has a right answer.
    size = memory_mib // 10
    options = {"do": "siblings", "name": "spawner", "child": "sibling", "size_mib": size, "count": 40, "every_s": 0.7}
    return [_database(memory_mib, 0.08), _actor(options)]


def _swapstorm(memory_mib: int) -> list[Actor]:
    # Two: each is larger than the database already when the storm begins.
    workers = [
        _actor({"do": "worker", "name": "worker", "size_mib": int(memory_mib * 0.6)}, unit=f"session-worker{number}")
        for number in range(2)
    ]
    return [_database(memory_mib), *workers]


def _tmpfs(memory_mib: int) -> list[Actor]:
    bystander = {"do": "steady", "name": "bystander", "size_mib": memory_mib // 24}
    crowd = [_actor(dict(bystander), unit=f"session-bystander{number}") for number in range(3)]
    filler = _actor(
        {"do": "files", "name": "filler", "rate_mib": 40, "limit_mib": memory_mib * 2, "until_available": 0.023}
    )
    return [_database(memory_mib, 0.1), *crowd, filler]


def _held_back(how: str) -> Callable[[int], list[Actor]]:
    """A big leaker that is kept from running at 15 %, and a small one that takes the rest."""

    def cast(memory_mib: int) -> list[Actor]:
        pusher = {"do": "leak", "name": "pusher", "rate_mib": 10, "wait_for": "full"}
        leaker = _leaker(until_available=0.15, then=how, stop_then=True)
        # So that its control group has cpu.max at all.
        leaker["properties"] = ["CPUWeight=100"]
        actors = [_database(memory_mib), leaker, _actor(pusher)]
        if how == "idle":
            hogs = [{"do": "hog", "name": "hog", "wait_for": "full"} for _ in range(2)]
            actors += [_actor(options, unit=f"session-hog{number}") for number, options in enumerate(hogs)]
        return actors

    return cast


def _neighbour(memory_mib: int) -> list[Actor]:
    """The throttled leaker again, and somebody who needs some memory just then, and no more than that."""
    neighbour = {"do": "leak", "name": "neighbour", "rate_mib": 40, "wait_for": "full", "limit_mib": memory_mib // 4}
    leaker = _leaker(until_available=0.15, then="throttle hard", stop_then=True)
    leaker["properties"] = ["CPUWeight=100"]
    return [_database(memory_mib, 0.1), leaker, _actor(neighbour)]


def _service(memory_mib: int) -> list[Actor]:
    options = {"do": "leak", "name": "leaker", "rate_mib": 50}
    properties = ["Restart=always", "RestartSec=500ms", "StartLimitIntervalSec=0"]
    return [_database(memory_mib), _actor(options, slice_=SYSTEM, service=True, properties=properties)]


def _session(memory_mib: int) -> list[Actor]:
    child = {"do": "leak", "name": "bigchild", "rate_mib": 50}
    return [_database(memory_mib), _actor({"do": "terminal", "name": "terminal", "child": child})]


def _culprit(memory_mib: int) -> list[Actor]:
    return [_database(memory_mib, 0.5), _leaker(rate_mib=25)]


def _innocent(memory_mib: int) -> list[Actor]:
    builder = {"do": "builder", "name": "make", "child": "cc1", "size_mib": memory_mib // 12}
    reader = _actor({"do": "reader", "name": "reader", "folder": "/usr"})
    crew = [_actor(dict(builder), unit=f"session-make{number}") for number in range(2)]
    return [_database(memory_mib), reader, *crew]


def _memcg(memory_mib: int) -> list[Actor]:
    limit = memory_mib // 4
    properties = [f"MemoryMax={limit}M", "MemorySwapMax=0"]
    container = _actor({"do": "leak", "name": "container", "rate_mib": 30}, slice_=SYSTEM, properties=properties)
    return [_database(memory_mib), container]


def _gentle(memory_mib: int) -> list[Actor]:
    """Somebody who needs none of what he has, and somebody who needs more than is left."""
    cold = {"do": "leak", "name": "cold", "begin_mib": int(memory_mib * 0.4), "limit_mib": 0, "touch": 0}
    worker = {"do": "leak", "name": "worker", "rate_mib": 30, "limit_mib": int(memory_mib * 0.36), "touch": 16}
    return [_database(memory_mib), _actor(cold), _actor(worker)]


def _frozen_session(memory_mib: int) -> list[Actor]:
    """Two who find room one after the other; whom the other user is looking at is the one that ends."""
    background = {"do": "leak", "name": "background", "rate_mib": 14, "limit_mib": int(memory_mib * 0.3), "touch": 16}
    encoder = {"do": "encoder", "name": "encoder", "rate_mib": 40, "size_mib": int(memory_mib * 0.28), "hold_s": 8}
    return [_database(memory_mib), _actor(background, slice_=OTHER_SESSION), _actor(encoder)]


_LEAKER = frozenset({"leaker"})
_HELD = frozenset({"leaker", "pusher"})

_RECLAIMS = """
  - name: take-back
    when: {all: [{memory_available: {below: 25%}}]}
    choose: {from: ["/user.slice/**"], leaves: true, level: cgroup, policy: cold}
    then: [{reclaim: {amount: 20%, timeout: 5s}}]
    pause: 2s
"""
_FREEZES = """
  - name: background-waits
    when: {all: [{memory_available: {below: 20%}}]}
    choose: {from: [/user.slice/user-1001.slice], level: cgroup, policy: resident}
    then: [{freeze: {timeout: 20s, at_most: 20s}}]
"""

ALL = (
    Scenario("leak", "a process grows at 50 MB/s", _leak, _LEAKER, watch=("leaker", "database")),
    Scenario(
        "forkbomb-mem",
        "many siblings of medium size, one more every 0.7 s",
        _siblings,
        frozenset({"sibling", "spawner"}),
        max_s=45,
        largest=False,  # those that still grow are not, once the grown ones are dead
    ),
    Scenario(
        "swapstorm",
        "a working set of 1.4 times the memory",
        _swapstorm,
        frozenset({"worker"}),
        swap="disk",
        watch=("worker", "database"),
        max_s=90,
        settle_s=8,
    ),
    Scenario(
        "tmpfs",
        "files in /dev/shm take all but 2.3 % of the memory; killing does not bring it back",
        _tmpfs,
        frozenset({"filler"}),
        max_s=40,
        kernel_may=True,
        must_kill=False,
        prepare=(("mount", "-o", "remount,size=100%", "/dev/shm"),),
    ),
    Scenario("stubborn", "a leaker that ignores SIGTERM", _stubborn, _LEAKER, watch=("leaker", "database")),
    Scenario(
        "starved",
        "a SCHED_IDLE leaker under CPU hogs, a small one takes the rest",
        _held_back("idle"),
        _HELD,
        watch=("leaker", "pusher", "database"),
        settle_s=8,
    ),
    Scenario(
        "frozen",
        "the largest process is in a frozen control group",
        _held_back("freeze"),
        _HELD,
        watch=("leaker", "pusher", "database"),
        settle_s=8,
    ),
    Scenario(
        "throttled",
        "the largest process has cpu.max 1 %",
        _held_back("throttle"),
        _HELD,
        watch=("leaker", "pusher", "database"),
        settle_s=8,
    ),
    Scenario("service", "a leaking service with Restart=always", _service, _LEAKER, max_s=40),
    Scenario(
        "session",
        "a terminal's scope with one big child",
        _session,
        frozenset({"bigchild"}),
        watch=("bigchild", "terminal", "database"),
    ),
    Scenario(
        "culprit",
        "a large steady database and a smaller leaker",
        _culprit,
        _LEAKER,
        watch=("leaker", "database"),
        settle_s=6,
    ),
    Scenario(
        "innocent",
        "page cache and a build: nobody is to die",
        _innocent,
        frozenset(),
        swap="zram",
        max_s=30,
        must_kill=False,
    ),
    Scenario(
        "memcg",
        "a container at its own memory.max: the node must not react",
        _memcg,
        frozenset(),
        watch=("container", "database"),
        max_s=30,
        must_kill=False,
    ),
    Scenario(
        "gentle",
        "cold memory, and somebody who needs it; ours takes it back before memory is short",
        _gentle,
        frozenset(),
        swap="disk",
        max_s=30,
        must_kill=False,
        rulesets=_RECLAIMS,
    ),
    Scenario(
        "frozen-session",
        "a session in the background and an encoder in the foreground that soon ends; ours stops the former meanwhile",
        _frozen_session,
        frozenset(),
        max_s=30,
        must_kill=False,
        rulesets=_FREEZES,
    ),
    Scenario("burst", "as fast as the guest can", _burst, _LEAKER, watch=("leaker", "database"), kernel_may=True),
)
NEIGHBOUR = Scenario(
    "neighbour",
    "the largest process has cpu.max 0.1 %, and a neighbour needs a little more memory",
    _neighbour,
    _LEAKER,
    max_s=30,
)
"""Shows what reaping is for: without it the neighbour dies. Not on the scoreboard."""
BY_NAME = {scenario.name: scenario for scenario in (*ALL, NEIGHBOUR)}
EXTRA_CELLS = (("leak", "zram"), ("swapstorm", "zram"))
"""Scoreboard cells beside the natural ones."""
SWAP_SHARE = {"none": 0.0, "zram": 0.75, "disk": 1.0}


def swap_mib(kind: str, memory_mib: int) -> int:
    """The size of the swap device: 3/4 of the memory on zram, all of it on disk."""
    return int(SWAP_SHARE[kind] * memory_mib)
