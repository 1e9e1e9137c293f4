"""``lmkd:``: oomd in the place of Android's lmkd."""

from __future__ import annotations

from oomd.config.lmkd_properties import problems_of_file
from oomd.config.problems import did_you_mean
from oomd.config.schema import LMKD_KEYS, Key
from oomd.model.config import LmkdOptions
from oomd.model.lmkd_properties import names_of_all, problem_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import yaml

    from oomd.config.nodes import Walker

RULES = ("level", "stall", "rulesets", "protect", "prefer", "avoid", "omit")
"""The keys that ``only`` leaves without effect: who may die is a matter of adj alone."""
_LINE = Key("override", "text", "", "one property")


def build_lmkd(walker: Walker, nodes: dict[str, yaml.Node], given: dict[str, Any] | None) -> LmkdOptions | None:
    """The options; None where nobody asked for them. ``given``: what the command line says of them."""
    node = nodes.get("lmkd")
    if node is None and given is None:
        return None
    values: dict[str, Any] = {}
    if node is not None:
        plain = tuple(key for key in LMKD_KEYS if key.kind != "texts")
        inner = walker.mapping(node, "lmkd", (key.name for key in LMKD_KEYS))
        for key in plain:
            if key.name in inner:
                value = walker.scalar(inner[key.name], f"lmkd.{key.name}", key)
                values |= {} if value is None else {key.name: value}
        if "override" in inner:
            values["override"] = _lines(walker, inner["override"])
    options = LmkdOptions(**{**values, **(given or {})})
    if options.properties:
        walker.problems += problems_of_file(options.properties)
    for name in RULES:
        if options.only and name in nodes:
            walker.problem(nodes[name], name, "has no effect beside lmkd: {only: true}; remove one of them")
    return options


def _lines(walker: Walker, node: yaml.Node) -> tuple[str, ...]:
    lines = []
    for number, item in enumerate(walker.sequence(node, "lmkd.override")):
        place = f"lmkd.override[{number}]"
        text = walker.scalar(item, place, _LINE)
        if text is None:
            continue
        problem = problem_of(text)
        if problem:
            name = text.partition("=")[0].strip()
            hint = did_you_mean(name, names_of_all()) if "no property" in problem else ""
            walker.problem(item, place, problem + hint)
        lines.append(text)
    return tuple(lines)
