"""``proactive:`` of the configuration, from YAML nodes."""

from __future__ import annotations

from oomd.config.ladders import check_cgroups
from oomd.config.nodes import is_off
from oomd.config.schema import option_keys
from oomd.model.proactive import Proactive
from oomd.model.values import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    import yaml

    from oomd.config.nodes import Walker

PROACTIVE_KEYS = option_keys(Proactive)


def build_proactive(walker: Walker, nodes: dict[str, yaml.Node]) -> Proactive | None:
    """None where it is off, or after a problem."""
    node = nodes.get("proactive")
    if node is None or is_off(node):
        return None
    values = walker.options(node, "proactive", PROACTIVE_KEYS)
    walker.ranges(node, "proactive", values, Proactive.ranges)
    if "of" not in values:
        is_told = not walker.is_mapping(node) and not walker.is_nothing(node)
        if "of" not in walker.keys_of(node) and not is_told:  # else it is there, wrong, and told already
            walker.problem(node, "proactive", "needs 'of': nothing is reclaimed from everybody")
        return None
    check_cgroups(walker, walker.value_of(node, "of"), "proactive.of", values["of"])
    if "most" in values and values["most"].is_nothing:
        walker.problem(walker.value_of(node, "most"), "proactive.most", "is nothing: no page would ever be taken")
    given = {name: values[name.removesuffix("_us")] for name in _FIELDS if name.removesuffix("_us") in values}
    return Proactive(**given)


_FIELDS = tuple(field.name for field in fields(Proactive))
