"""A trace: a folder with one folder per step, named by its time in seconds, each with ``proc/`` and ``cgroup/``."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from oomd.model.units import SECOND_US
from oomd.model.values import dataclass, replace
from oomd.replay.meta import Meta, read_meta

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIME = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?", re.ASCII)
MOST_STEPS = 100_000
"""More folders than this are no trace that anybody recorded."""


class ReplayError(Exception):
    """What is to be replayed cannot be; the message names the file and says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a trace, with the trees that hold there: its own, or those of the step before."""

    number: int
    """From 0."""
    name: str
    """Its folder's name."""
    time_us: int
    proc_dir: str
    cgroup_dir: str = ""
    """Empty where no step had one yet."""
    meta: Meta = Meta()


def read_trace(path: str) -> tuple[Step, ...]:
    """The steps in the order of their times. Raises ReplayError for a folder that is no trace.

    Files beside the steps, and what begins with a dot, are left alone. A tree (and with it what ``meta.yaml`` said)
    that a step lacks is that of the step before.
    """
    steps: list[Step] = []
    for number, (time_us, name) in enumerate(_names(path)):
        before = steps[-1] if steps else Step(-1, "", 0, "")
        steps.append(_step(path, replace(before, number=number, name=name, time_us=time_us)))
    return tuple(steps)


def parse_time(name: str) -> int | None:
    """Microseconds of ``0``, ``12`` or ``2.5``; None for anything else."""
    match = _TIME.fullmatch(name)
    if match is None:
        return None
    fraction = (match[2] or "").ljust(6, "0")[:6]
    return int(match[1]) * SECOND_US + int(fraction)


def _names(path: str) -> list[tuple[int, str]]:
    found: dict[int, str] = {}
    for name in sorted(_folders(path)):
        time_us = parse_time(name)
        if time_us is None:
            raise ReplayError(f"{path}/{name}: a step's folder is named by its time in seconds, as in 0 or 2.5")
        if time_us in found:
            raise ReplayError(f"{path}/{name}: the step {found[time_us]} has the same time")
        found[time_us] = name
        if len(found) > MOST_STEPS:
            raise ReplayError(f"{path}: more than {MOST_STEPS} steps")
    if not found:
        raise ReplayError(f"{path}: no step in it: a trace has one folder per step, named by its time in seconds")
    return sorted(found.items())


def _folders(path: str) -> Iterator[str]:
    try:
        with os.scandir(path) as entries:
            yield from (entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from error


def _step(path: str, inherited: Step) -> Step:
    folder = os.path.join(path, inherited.name)
    proc_dir, cgroup_dir = (_tree(os.path.join(folder, name)) for name in ("proc", "cgroup"))
    step = replace(inherited, proc_dir=proc_dir or inherited.proc_dir, cgroup_dir=cgroup_dir or inherited.cgroup_dir)
    if not step.proc_dir:
        raise ReplayError(f"{folder}: the first step needs proc/")
    meta = os.path.join(folder, "meta.yaml")
    if os.path.lexists(meta):
        step = replace(step, meta=_meta(meta, step))
    elif step.cgroup_dir != inherited.cgroup_dir:
        step = replace(step, meta=Meta())  # a tree of its own has its own marks
    return step


def _tree(directory: str) -> str:
    """The tree's folder; empty where the step has none."""
    if os.path.isdir(directory):
        return directory
    if os.path.lexists(directory):
        raise ReplayError(f"{directory}: is not a folder")
    return ""


def _meta(path: str, step: Step) -> Meta:
    try:
        return read_meta(path, proc_dir=step.proc_dir, cgroup_dir=step.cgroup_dir)
    except ValueError as error:
        raise ReplayError(str(error)) from error
