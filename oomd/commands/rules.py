"""``oomd detectors``, ``oomd policies``, ``oomd actions``: what rules can be made of, from the declarations that the
loader reads.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from oomd import detectors, policies
from oomd.config.schema import Key, is_needed, option_keys
from oomd.model import steps

if TYPE_CHECKING:
    import argparse

KINDS = {
    "threshold": "a size, a share, or min(…, …) of both",
    "duration": "a duration",
    "share": "a share of at most 100%",
    "percent": "a percentage",
    "ratio": "a number of times",
    "count": "a whole number",
    "rate": "a size per second",
    "subject": "machine, or cgroups",
    "cgroups": "cgroups",
    "no_cgroups": "none, or cgroups",
    "bool": "true or false",
    "size": "a size",
    "text": "a text",
}
"""How the kinds of options are said."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the three commands."""
    for name, what in (("detectors", "when"), ("policies", "whom"), ("actions", "what then")):
        parser = subparsers.add_parser(name, help=f"list the {name} of rules ({what})", description=__doc__)
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.set_defaults(run=run, listed=name)


def run(arguments: argparse.Namespace) -> int:
    """Print the list."""
    entries = LISTS[arguments.listed]()
    if arguments.json:
        print(json.dumps({"version": 1, arguments.listed: entries}))
    else:
        print("\n".join(line for entry in entries for line in describe(entry)))
    return 0


def list_declared(declared: tuple[type[Any], ...]) -> list[dict[str, Any]]:
    """Detectors, policies or the steps of ladders as plain values."""
    return [
        {
            "name": each.name,
            "meaning": each.meaning,
            "options": [_plain(key, needed=is_needed(each, key.name)) for key in option_keys(each)],
        }
        for each in declared
    ]


LISTS = {
    "detectors": lambda: list_declared(detectors.ALL),
    "policies": lambda: list_declared(policies.ALL),
    "actions": lambda: list_declared(steps.ALL),
}


def describe(entry: dict[str, Any]) -> list[str]:
    """An entry for people."""
    lines = [f"{entry['name']}: {entry['meaning']}"]
    for option in entry["options"]:
        kind = " | ".join(option["choices"]) if option["choices"] else KINDS[option["kind"]]
        default = "needed" if option["needed"] else f"default {option['default'] or 'none'}"
        lines.append(f"    {option['name']} ({kind}; {default}): {option['meaning']}")
    return lines


def _plain(key: Key, *, needed: bool) -> dict[str, Any]:
    return {
        "name": key.name,
        "kind": key.kind,
        "needed": needed,
        "default": key.default or None,
        "choices": list(key.choices),
        "meaning": key.meaning,
    }
