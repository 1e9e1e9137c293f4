"""The long form of the rules, from YAML nodes."""

from __future__ import annotations

from oomd import detectors, policies
from oomd.config.hooks import build_hooks
from oomd.config.ladders import build_ladder, check_ladder
from oomd.config.problems import did_you_mean
from oomd.config.schema import CHOOSE_KEYS, RULESET_KEYS, Key, is_needed, option_keys
from oomd.model.ruleset import CGROUP, PROCESS_IN, Choice, Ruleset
from oomd.model.values import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import yaml

    from oomd.config.nodes import Walker
    from oomd.model.ruleset import Detector, Policy

DETECTORS: dict[str, Any] = {each.name: each for each in detectors.ALL}
POLICIES: dict[str, Any] = {each.name: each for each in policies.ALL}
_KEYS = {key.name: key for key in RULESET_KEYS}
_CHOOSE = {key.name: key for key in CHOOSE_KEYS}


def build_rulesets(walker: Walker, node: yaml.Node) -> tuple[Ruleset, ...]:
    """The rulesets of a list; mistakes become problems, and their rulesets are left out."""
    rulesets: dict[str, Ruleset] = {}
    known = len(walker.problems)
    items = walker.sequence(node, "rulesets")
    if not items and len(walker.problems) == known:
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
    choice, policy = _choose(walker, nodes.get("choose"), f"{path}.choose")
    ladder = build_ladder(walker, nodes.get("then"), f"{path}.then")
    check_ladder(walker, nodes, path, ladder, choice.level)
    return Ruleset(
        name=values.get("name") or path,
        when=_groups(walker, nodes["when"], f"{path}.when") if "when" in nodes else (),
        critical=_groups(walker, nodes["critical"], f"{path}.critical") if "critical" in nodes else (),
        policy=policy,
        choice=choice,
        for_us=values.get("for") or 0,
        grace_us=ladder.grace_us,
        pause_us=values.get("pause") or 0,
        steps=ladder.steps,
        last=ladder.last,
        hooks=build_hooks(walker, nodes["hooks"], f"{path}.hooks") if "hooks" in nodes else None,
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
    group, items = [], walker.sequence(node, path)
    for index, item in enumerate(items):
        place = f"{path}[{index}]"
        nodes = walker.mapping(item, place, DETECTORS)
        if len(nodes) > 1:
            walker.problem(item, place, "names several detectors; each is an item of its own")
        group += [_detector(walker, name, options, f"{place}.{name}") for name, options in nodes.items()]
        if walker.is_empty_mapping(item):
            walker.problem(item, place, "names no detector")
    if not items:
        walker.problem(node, path, "has no detector: an empty group would always hold")
    return tuple(group)


def _detector(walker: Walker, name: str, node: yaml.Node, path: str) -> Detector | None:
    detector: Detector | None = _declared(walker, DETECTORS[name], node, path)
    return detector


def _declared(walker: Walker, declared: type[Any], node: yaml.Node, path: str) -> Any:
    """A detector or policy of these options."""
    values = walker.options(node, path, option_keys(declared))
    walker.ranges(node, path, values, getattr(declared, "ranges", {}))
    alternatives = getattr(declared, "one_of", ())
    if alternatives and len(walker.keys_of(node) & set(alternatives)) != 1:
        walker.problem(node, path, f"needs one of {' and '.join(repr(each) for each in alternatives)}, and only one")
    return _construct(walker, node, path, declared, values)


def _choose(walker: Walker, node: yaml.Node | None, path: str) -> tuple[Choice, Policy | None]:
    """``choose:``: among whom, what dies as one, and in which order."""
    nodes = {} if node is None else walker.mapping(node, path, _CHOOSE)
    policy = _policy(walker, nodes["policy"], f"{path}.policy") if "policy" in nodes else policies.ALL[0]()
    values = {
        name: value
        for name in ("level", "recursive", "leaves", "most")
        if name in nodes and (value := walker.scalar(nodes[name], f"{path}.{name}", _CHOOSE[name])) is not None
    }
    among: list[str] = []
    known = len(walker.problems)
    items = walker.sequence(nodes["from"], f"{path}.from") if "from" in nodes else []
    for index, item in enumerate(items):
        pattern = walker.scalar(item, f"{path}.from[{index}]", _CHOOSE["from"])
        among += pattern.split(",") if pattern else []
    if values.get("leaves"):
        among = [each if each.endswith("/**") else f"{each.rstrip('/')}/**" for each in among]
    if "from" in nodes and not items and len(walker.problems) == known:
        walker.problem(nodes["from"], f"{path}.from", "names no cgroup; left out it means everybody in scope")
    if values.get("most") == 0:
        walker.problem(nodes["most"], f"{path}.most", "nobody could ever be taken")
    choice = Choice(among=tuple(among), **values)
    if choice.recursive and choice.level not in (CGROUP, PROCESS_IN):
        walker.problem(
            nodes["recursive"], f"{path}.recursive", f"has no effect at level {choice.level}: only cgroups nest"
        )
    if choice.leaves:
        _check_leaves(walker, nodes, path, choice)
    return choice, policy


def _check_leaves(walker: Walker, nodes: dict[str, yaml.Node], path: str, choice: Choice) -> None:
    where = f"{path}.leaves"
    if choice.level != CGROUP:
        walker.problem(nodes["leaves"], where, f"has no effect at level {choice.level}: only cgroups have leaves")
    elif choice.recursive:
        walker.problem(nodes["leaves"], where, "speaks against recursive, which goes down from sibling to sibling")
    elif "from" not in nodes:
        walker.problem(nodes["leaves"], where, "needs 'from': below which cgroups, as in [/system.slice/**]")


def _policy(walker: Walker, node: yaml.Node, path: str) -> Policy | None:
    """``culprit``, or ``{growth_or_size: {growth: 1.5}}``."""
    if walker.is_mapping(node):
        policy: Policy | None = None
        nodes = walker.mapping(node, path, POLICIES)
        if len(nodes) > 1 or walker.is_empty_mapping(node):
            walker.problem(node, path, "should be one policy")
        for name, options in nodes.items():
            policy = _declared(walker, POLICIES[name], options, f"{path}.{name}")
        return policy
    name = walker.scalar(node, path, Key("policy", "text", "", ""))
    if name is None:
        return None
    if name not in POLICIES:
        hint = did_you_mean(str(name), POLICIES)
        walker.problem(node, path, f"{name!r} is no policy; there is: {', '.join(POLICIES)}{hint}")
        return None
    return POLICIES[str(name)]()  # type: ignore[no-any-return]


def _construct(walker: Walker, node: yaml.Node, path: str, declared: type[Any], values: dict[str, Any]) -> Any:
    """The detector or policy with these options; a missing one that has no default is a problem."""
    arguments = {}
    for field in fields(declared):
        option = field.name.removesuffix("_us")
        if option in values:
            arguments[field.name] = values[option]
        elif is_needed(declared, option):
            if option not in walker.keys_of(node):  # else it is there, wrong, and told already
                walker.problem(node, path, f"needs {option!r}")
            return None
    return declared(**arguments)
