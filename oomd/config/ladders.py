"""``then:`` of a ruleset, from YAML nodes: gentle steps, then perhaps SIGTERM, then perhaps a kill."""

from __future__ import annotations

import re

from oomd.config.schema import option_keys
from oomd.model.ruleset import LAST_CGROUP_KILL, LAST_NOTHING
from oomd.model.steps import (
    ALL,
    CgroupKillStep,
    KillStep,
    ReclaimStep,
    RestartStep,
    TermStep,
)
from oomd.model.values import dataclass, fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import yaml

    from oomd.config.nodes import Walker
    from oomd.model.steps import Gentle

STEPS: dict[str, Any] = {each.name: each for each in ALL}
SIGNALS = (TermStep.name, KillStep.name, CgroupKillStep.name)
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,255}", re.ASCII)
"""systemd.unit(5)."""
_NO_SERVICES = (
    ".automount",
    ".device",
    ".mount",
    ".path",
    ".scope",
    ".slice",
    ".socket",
    ".swap",
    ".target",
    ".timer",
)
"""The kinds of units that are none; another dot is part of a service's name."""


@dataclass(slots=True)
class Ladder:
    """What is done, in this order."""

    steps: tuple[Gentle, ...] = ()
    grace_us: int = 0
    last: str = LAST_NOTHING


def build_ladder(walker: Walker, node: yaml.Node | None, path: str) -> Ladder:
    """The steps of a list; mistakes become problems."""
    if node is None:
        return Ladder(grace_us=TermStep().grace_us, last=KillStep.name)
    ladder, names, known = Ladder(), [], len(walker.problems)
    items = walker.sequence(node, path)
    for index, item in enumerate(items):
        place = f"{path}[{index}]"
        nodes = walker.mapping(item, place, STEPS)
        if len(nodes) > 1:
            walker.problem(item, place, "names several steps; each is an item of its own")
        if walker.is_empty_mapping(item):
            walker.problem(item, place, "names no step")
        for name, options in nodes.items():
            names.append(name)
            _add(walker, ladder, name, options, f"{place}.{name}")
    if not items and len(walker.problems) == known:
        walker.problem(node, path, "has no step: nothing would ever be done")
    _check_order(walker, node, path, names)
    return ladder


def _add(walker: Walker, ladder: Ladder, name: str, node: yaml.Node, path: str) -> None:
    declared = STEPS[name]
    values = walker.options(node, path, option_keys(declared))
    walker.ranges(node, path, values, getattr(declared, "ranges", {}))
    fields = {field: values[option] for field, option in _options_of(declared).items() if option in values}
    if name == TermStep.name:
        ladder.grace_us = TermStep(**fields).grace_us
    elif name in SIGNALS:
        ladder.last = name
    else:
        step = declared(**fields)
        _check_step(walker, node, path, step)
        ladder.steps += (step,)


def _options_of(declared: Any) -> dict[str, str]:
    """Options by the field that takes them."""
    return {field.name: field.name.removesuffix("_us") for field in fields(declared)}


def _check_order(walker: Walker, node: yaml.Node, path: str, names: list[str]) -> None:
    signals = [name for name in names if name in SIGNALS]
    if not signals:
        return
    if names[-len(signals) :] != signals:
        walker.problem(node, path, f"{signals[0]} comes before a gentle step, which would never be reached")
    elif signals[0] == TermStep.name and len(signals) == 1:
        walker.problem(node, path, "should end in kill or cgroup_kill: a victim may ignore SIGTERM")
    elif len(signals) > 2 or (len(signals) == 2 and signals[0] != TermStep.name) or signals[-1] == TermStep.name:
        walker.problem(node, path, f"should end in term and kill (or cgroup_kill), or in kill alone, not {signals}")


def _check_step(walker: Walker, node: yaml.Node, path: str, step: Gentle) -> None:
    """What would never do anything."""
    if isinstance(step, RestartStep):
        _check_unit(walker, walker.value_of(node, "unit"), f"{path}.unit", step)
    check_cgroups(walker, walker.value_of(node, "of"), f"{path}.of", getattr(step, "of", ""))
    if isinstance(step, ReclaimStep) and step.amount.is_nothing:
        walker.problem(walker.value_of(node, "amount"), f"{path}.amount", "is nothing: no page would ever be taken")


def check_cgroups(walker: Walker, node: yaml.Node, path: str, of: str) -> None:
    """Whoever is left alone saves the cgroup that he is in: pid 1 and oomd are in the root, whatever else is."""
    if "/" in of.split(","):
        walker.problem(node, path, "'/' holds pid 1 and oomd, and is always left alone: name cgroups below it")


def _check_unit(walker: Walker, where: yaml.Node, path: str, step: RestartStep) -> None:
    if step.unit and not _UNIT.fullmatch(step.unit):
        walker.problem(where, path, f"{step.unit!r} is no name of a unit: it looks like nginx.service")
    elif step.unit.endswith(_NO_SERVICES):
        walker.problem(where, path, "only services can be restarted to give memory back")
    elif step.unit_name.endswith("@.service"):
        walker.problem(where, path, f"{step.unit!r} is a template: name one of its services, as in getty@tty1.service")


def check_ladder(walker: Walker, nodes: dict[str, yaml.Node], path: str, ladder: Ladder, level: str) -> None:
    """Whether the rest of its ruleset fits. ``nodes``: the ruleset's keys."""
    if ladder.last == LAST_NOTHING and "critical" in nodes and "then" in nodes:
        walker.problem(nodes["critical"], f"{path}.critical", "has no effect: the ladder does not end in kill")
    if ladder.last == LAST_CGROUP_KILL and level != "cgroup":
        walker.problem(nodes["then"], f"{path}.then", "cgroup_kill needs choose: {level: cgroup}")
