"""The long form of the rules, from YAML nodes."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from oomd import detectors, policies
from oomd.config.problems import did_you_mean
from oomd.config.schema import RULESET_KEYS, Key, option_keys
from oomd.model.ruleset import Ruleset
from oomd.model.units import SECOND_US

if TYPE_CHECKING:
    import yaml

    from oomd.config.nodes import Walker
    from oomd.model.ruleset import Detector, Policy

DETECTORS: dict[str, Any] = {each.name: each for each in detectors.ALL}
POLICIES: dict[str, Any] = {each.name: each for each in policies.ALL}
DEFAULT_GRACE_US = 5 * SECOND_US
_GRACE = Key("grace", "duration", "5s", "between SIGTERM and SIGKILL")
_KEYS = {key.name: key for key in RULESET_KEYS}


def build_rulesets(walker: Walker, node: yaml.Node) -> tuple[Ruleset, ...]:
    """The rulesets of a list; mistakes become problems, and their rulesets are left out."""
    rulesets: dict[str, Ruleset] = {}
    items = walker.sequence(node, "rulesets")
    if not items:
        walker.problem(node, "rulesets", "is empty: nothing would ever be done")
    for index, item in enumerate(items):
        path = f"rulesets[{index}]"
        before = len(walker.problems)
        ruleset = _build(walker, item, path)
        if ruleset.name in rulesets:
            walker.problem(item, path, f"another ruleset has the name {ruleset.name!r}")
        if len(walker.problems) == before:
            rulesets[ruleset.name] = ruleset
    return tuple(rulesets.values())


def _build(walker: Walker, node: yaml.Node, path: str) -> Ruleset:
    nodes = walker.mapping(node, path, _KEYS)
    values = {
        name: walker.scalar(nodes[name], f"{path}.{name}", _KEYS[name])
        for name in ("name", "for", "pause")
        if name in nodes
    }
    for name in ("name", "when"):
        if name not in nodes:
            walker.problem(node, path, f"needs {name!r}")
    if values.get("name") == "":
        walker.problem(nodes["name"], f"{path}.name", "is empty")
    return Ruleset(
        name=values.get("name") or path,
        when=_groups(walker, nodes["when"], f"{path}.when") if "when" in nodes else (),
        critical=_groups(walker, nodes["critical"], f"{path}.critical") if "critical" in nodes else (),
        policy=_policy(walker, nodes.get("choose"), f"{path}.choose"),
        for_us=values.get("for") or 0,
        grace_us=_grace(walker, nodes.get("then"), f"{path}.then"),
        pause_us=values.get("pause") or 0,
    )


def _groups(walker: Walker, node: yaml.Node, path: str) -> tuple[tuple[Any, ...], ...]:
    nodes = walker.mapping(node, path, ("any", "all"))
    if len(nodes) != 1:
        walker.problem(node, path, "needs either 'any' (a list of groups) or 'all' (a list of detectors)")
        return ()
    if "all" in nodes:
        return (_group(walker, nodes["all"], f"{path}.all"),)
    groups = []
    for index, item in enumerate(walker.sequence(nodes["any"], f"{path}.any")):
        place = f"{path}.any[{index}]"
        inner = walker.mapping(item, place, ("all",))
        if "all" in inner:
            groups.append(_group(walker, inner["all"], f"{place}.all"))
        else:
            walker.problem(item, place, "needs 'all' (a list of detectors)")
    if not groups:
        walker.problem(nodes["any"], f"{path}.any", "has no group: it would never hold")
    return tuple(groups)


def _group(walker: Walker, node: yaml.Node, path: str) -> tuple[Any, ...]:
    group = []
    for index, item in enumerate(walker.sequence(node, path)):
        place = f"{path}[{index}]"
        nodes = walker.mapping(item, place, DETECTORS)
        if len(nodes) > 1:
            walker.problem(item, place, "names several detectors; each is an item of its own")
        group += [_detector(walker, name, options, f"{place}.{name}") for name, options in nodes.items()]
        if walker.is_empty_mapping(item):
            walker.problem(item, place, "names no detector")
    if not group:
        walker.problem(node, path, "has no detector: an empty group would always hold")
    return tuple(group)


def _detector(walker: Walker, name: str, node: yaml.Node, path: str) -> Detector | None:
    declared = DETECTORS[name]
    values = walker.options(node, path, option_keys(declared))
    walker.ranges(node, path, values, getattr(declared, "ranges", {}))
    return _construct(walker, node, path, declared, values)


def _policy(walker: Walker, node: yaml.Node | None, path: str) -> Policy | None:
    if node is None:
        return policies.ALL[0]()
    nodes = walker.mapping(node, path, ("policy",))
    if "policy" not in nodes:
        return policies.ALL[0]()
    name = walker.scalar(nodes["policy"], f"{path}.policy", Key("policy", "text", "", ""))
    if name is None:
        return None
    if name not in POLICIES:
        hint = did_you_mean(str(name), POLICIES)
        message = f"{name!r} is no policy; there is: {', '.join(POLICIES)}{hint}"
        walker.problem(nodes["policy"], f"{path}.policy", message)
        return None
    policy: Policy = POLICIES[str(name)]()
    return policy


def _grace(walker: Walker, node: yaml.Node | None, path: str) -> int:
    """The ladder: SIGTERM with grace, then SIGKILL; or SIGKILL alone."""
    if node is None:
        return DEFAULT_GRACE_US
    grace = 0
    steps = []
    for index, item in enumerate(walker.sequence(node, path)):
        place = f"{path}[{index}]"
        for name, options in walker.mapping(item, place, ("term", "kill")).items():
            steps.append(name)
            if name == "term":
                grace = walker.options(options, f"{place}.term", (_GRACE,)).get("grace", DEFAULT_GRACE_US)
            else:
                walker.options(options, f"{place}.kill", ())
    if steps not in (["term", "kill"], ["kill"]):
        walker.problem(node, path, "should be [{term: {grace: 5s}}, {kill: {}}] or [{kill: {}}]")
    return int(grace)


def _construct(
    walker: Walker, node: yaml.Node, path: str, declared: type[Any], values: dict[str, Any]
) -> Detector | None:
    """The detector with these options; a missing one that has no default is a problem."""
    arguments = {}
    for field in fields(declared):
        option = field.name.removesuffix("_us")
        if option in values:
            arguments[field.name] = values[option]
        elif field.default is MISSING and field.default_factory is MISSING:
            walker.problem(node, path, f"needs {option!r}")
            return None
    detector: Detector = declared(**arguments)
    return detector
