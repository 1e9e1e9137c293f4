"""A recording of ``oomd run --record``, asked again: by the rules that held then, or by others.

What the kernel told (deaths, reaped victims, refusals) is taken from the recording; what rules decide, and the credit
that it opens, is worked out anew. A tick without a snapshot of its own, at which the new rules want a victim, is asked
with the snapshot that was taken last before it, or else first after it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from oomd.config.loader import load_config
from oomd.model.config import Config
from oomd.model.decision import Credit
from oomd.model.ruleset import EngineState, Pause
from oomd.model.snapshot import Cgroup, MemoryStatus, ProcessId, Snapshot
from oomd.model.values import dataclass, replace
from oomd.outside.recording import KEY, VERSION, RecordingError, value_of
from oomd.replay.trace import ReplayError

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BYTES = 64 << 20
"""Eight times what the recorder writes."""


_NUMBERS = ("time_us", "signal", "signal_us", "signal_errno", "reap_errno", "done_us")


@dataclass(frozen=True, slots=True)
class Fact:
    """What the kernel told of a victim between two ticks."""

    kind: str
    """``died``, ``reaped``, ``through`` (a step of the ruleset ``why``); in a tick: ``refused`` or ``escalated``."""
    id: ProcessId
    time_us: int = 0
    signal: int = 0
    signal_us: int = 0
    signal_errno: int = 0
    reap_errno: int = 0
    why: str = ""
    done_us: int = 0
    """``through``: when the step had done all that was asked of it; 0 where there was no more to be done."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was decided then."""

    action: str
    reason: str = ""
    target: ProcessId | None = None
    comm: str = ""
    name: str = ""
    """Of the group, session or cgroup that was taken."""
    step: int | None = None
    """The place in the ladder, of a gentle step."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One line of a recording."""

    number: int
    line: int
    status: MemoryStatus
    state: EngineState | None = None
    facts: tuple[Fact, ...] = ()
    pause: Pause | None = None
    """The pause that held from here on; one that ends at 0 for none. None where nothing changed."""
    asked: str = ""
    """Who asked for a victim, in words; empty where nobody did."""
    held: bool = False
    refused: tuple[Fact, ...] = ()
    escalated: tuple[Fact, ...] = ()
    answer: Answer | None = None
    opened: tuple[Credit, ...] = ()
    """The kills that it began."""
    cgroups: tuple[Cgroup, ...] = ()
    """What detectors saw of cgroups."""
    cgroups_cut: int = 0
    """How many more they saw, which the recording has no room for."""
    snapshot: Snapshot | None = None
    config: Config | None = None
    """Rules that were loaded just before this tick."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole file."""

    config: Config
    ticks: tuple[Tick, ...]
    cut: str = ""
    """Where and why reading ended before the end; empty for a whole file."""


def read_recording(path: str) -> Recording:
    """The file, as far as it can be read. Raises ReplayError when it is none, or of an unknown version."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES)
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from error
    lines = data.split(b"\n")
    config = _read_header(path, lines[0])
    ticks: list[Tick] = []
    cut = "" if lines[-1] == b"" else f"{path}:{len(lines)}: cut off in the middle of a line"
    fresh: Config | None = None
    for number, line in enumerate(lines[1:-1], 2):
        try:
            content = json.loads(line)
            if "config" in content:
                fresh = _config_of(path, number, content["config"])
                continue
            tick = _tick_of(content, number, fresh)
            if content.get("same_cgroups") and ticks:
                tick = replace(tick, cgroups=ticks[-1].cgroups, cgroups_cut=ticks[-1].cgroups_cut)
            ticks.append(tick)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            cut = f"{path}:{number}: not a tick of a recording ({' '.join(str(error).split())[:200]})"
            break
        fresh = None
    if not ticks:
        raise ReplayError(f"{path}: no tick in it{f'; {cut}' if cut else ''}")
    return Recording(config, tuple(ticks), cut)


def _read_header(path: str, line: bytes) -> Config:
    try:
        header = json.loads(line)
        version = header[KEY]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ReplayError(f"{path}: is no recording of oomd (and no folder of steps)") from None
    if version != VERSION:
        raise ReplayError(f"{path}: a recording of version {version!r}; this oomd reads version {VERSION}")
    return _config_of(path, 1, header.get("config"))


def _config_of(path: str, line: int, text: object) -> Config:
    """The rules of a header or a reload, as they held."""
    if not isinstance(text, str):
        raise ReplayError(f"{path}:{line}: tells no rules")
    loaded = load_config(f"{path}:{line}", text=text.encode())
    if isinstance(loaded, Config):
        return loaded
    problems = "\n".join(str(problem) for problem in loaded)
    raise ReplayError(f"{path}:{line}: its rules are not those of this oomd; give others with --config\n{problems}")


def _tick_of(content: dict[str, Any], line: int, config: Config | None) -> Tick:
    status = _expect(value_of(content["status"]), MemoryStatus)
    state = content.get("state")
    snapshot = content.get("snapshot")
    if snapshot is not None:
        snapshot = {**snapshot, "status": content["status"]}
    return Tick(
        number=int(content["tick"]),
        line=line,
        status=status,
        state=None if state is None else _expect(value_of(state), EngineState),
        facts=tuple(_fact_of(fact, fact["fact"]) for fact in content.get("facts", ())),
        pause=_pause_of(content.get("pause"), status.time_us),
        asked=str(content.get("asked", "")),
        held=bool(content.get("held")),
        refused=tuple(_fact_of(fact, "refused") for fact in content.get("refused", ())),
        escalated=tuple(_fact_of(fact, "escalated") for fact in content.get("escalated", ())),
        answer=_answer_of(content.get("decision")),
        opened=_all(content.get("opened", []), Credit),
        cgroups=_all(content.get("cgroups", []), Cgroup),
        cgroups_cut=int(content.get("cgroups_cut", 0)),
        snapshot=None if snapshot is None else _expect(value_of(snapshot), Snapshot),
        config=config,
    )


def _pause_of(content: dict[str, Any] | None, time_us: int) -> Pause | None:
    if content is None:
        return None
    why, by = str(content.get("why", "")), str(content.get("by", ""))
    return Pause(time_us, int(content.get("until_us", 0)), why, by)


def _expect(value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind):
        raise RecordingError(f"not a {kind.__name__}")
    return value


def _all(content: Any, kind: type[Any]) -> tuple[Any, ...]:
    return tuple(_expect(value_of(each), kind) for each in content)


def _fact_of(content: dict[str, Any], kind: str) -> Fact:
    numbers = {name: int(content.get(name, 0)) for name in _NUMBERS}
    return Fact(str(kind), _id_of(content), why=str(content.get("why", "")), **numbers)


def _answer_of(content: dict[str, Any] | None) -> Answer | None:
    if content is None:
        return None
    target = content["target"]
    identity = None if target is None else _id_of(target)
    comm = "" if target is None else str(target["comm"])
    step = content.get("step")
    name = str(content.get("name", ""))
    return Answer(
        str(content["action"]), str(content["reason"]), identity, comm, name, None if step is None else int(step)
    )


def _id_of(content: dict[str, Any]) -> ProcessId:
    return ProcessId(int(content["pid"]), int(content["start_ticks"]))


def nearest_snapshots(ticks: tuple[Tick, ...]) -> Iterator[tuple[Tick, Snapshot | None, int | None]]:
    """Each tick with the snapshot to ask it with, and when that was taken: its own, the last before it, or the first
    after it.
    """
    latest = next(((tick.snapshot, tick.status.time_us) for tick in ticks if tick.snapshot is not None), None)
    for tick in ticks:
        if tick.snapshot is not None:
            latest = (tick.snapshot, tick.status.time_us)
        if latest is None:
            yield tick, None, None
        else:
            yield tick, replace(latest[0], status=tick.status), latest[1]
