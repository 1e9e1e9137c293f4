"""``hooks:``, of the configuration or of a ruleset: what is run or called before and after a kill.

oomd is mostly root, and so are these programs: they are taken only from a file that root alone can write, and only
where root alone can write them.
"""

from __future__ import annotations

import os

from oomd.config.schema import HOOK_KEYS, HOOKS_KEYS, Key
from oomd.config.trust import why_untrusted
from oomd.model.hooks import Hook, Hooks
from oomd.model.units import MILLISECOND_US, SECOND_US, format_exact_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import yaml

    from oomd.config.nodes import Walker

DEFAULT_US = {"before": 200 * MILLISECOND_US, "after": 10 * SECOND_US}
LONGEST_US = {"before": 60 * SECOND_US, "after": 600 * SECOND_US}
SHORTEST_US = 1 * MILLISECOND_US
MOST_WORDS = 64
_WORD = Key("exec", "text", "", "one word")


def build_hooks(walker: Walker, node: yaml.Node, path: str) -> Hooks:
    """What is to be run; mistakes become problems."""
    inner = walker.mapping(node, path, (key.name for key in HOOKS_KEYS))
    values: dict[str, Any] = {}
    for key in HOOKS_KEYS:
        if key.name not in inner:
            continue
        place = f"{path}.{key.name}"
        if key.kind == "hook":
            values[key.name] = _hook(walker, inner[key.name], place, key.name)
        else:
            prekill_us = walker.scalar(inner[key.name], place, key)
            if prekill_us:
                walker.ranges(inner[key.name], path, {"prekill": prekill_us}, {"prekill": _range("before")})
                values["prekill_us"] = prekill_us
    programs = [hook for name, hook in values.items() if name in DEFAULT_US and hook is not None]
    why = why_not_root_alone(walker.file) if programs and walker.from_file else ""
    if why:
        walker.problem(node, path, f"would run programs for whoever can change this file: {why}")
    return Hooks(**values)


def _hook(walker: Walker, node: yaml.Node, path: str, when: str) -> Hook | None:
    inner = walker.mapping(node, path, (key.name for key in HOOK_KEYS))
    if "exec" not in inner:
        if not walker.is_nothing(node):
            walker.problem(node, path, "needs 'exec' (a list: the program and its arguments)")
        return None
    words = _words(walker, inner["exec"], f"{path}.exec")
    deadline_us = DEFAULT_US[when]
    if "deadline" in inner:
        key = next(key for key in HOOK_KEYS if key.name == "deadline")
        given = walker.scalar(inner["deadline"], f"{path}.deadline", key)
        deadline_us = deadline_us if given is None else given
        walker.ranges(inner["deadline"], path, {"deadline": deadline_us}, {"deadline": _range(when)})
    return Hook(words, deadline_us) if words else None


def _words(walker: Walker, node: yaml.Node, path: str) -> tuple[str, ...]:
    items = walker.sequence(node, path)
    if not items or len(items) > MOST_WORDS:
        walker.problem(node, path, "names no program" if not items else f"has more than {MOST_WORDS} words")
        return ()
    words = [walker.scalar(item, f"{path}[{number}]", _WORD) for number, item in enumerate(items)]
    if words[0] is not None and walker.from_file:
        why = why_not_run(words[0])
        if why:
            walker.problem(items[0], f"{path}[0]", why)
    return tuple(word for word in words if word is not None)


def why_not_run(program: str) -> str:
    """Why this program would not be run; empty where it would."""
    if not program.startswith("/"):
        return f"{program!r} is no path from the root (nothing is searched for in PATH)"
    if not os.path.isfile(program):
        return f"there is no program {program}"
    if not os.access(program, os.X_OK):
        return f"{program} is not executable"
    return why_not_root_alone(program)


def why_not_root_alone(path: str) -> str:
    """:func:`oomd.config.trust.why_untrusted`; what cannot be looked at is not trusted."""
    try:
        return why_untrusted(path)
    except OSError as error:
        return f"{error.filename or path} cannot be looked at: {error.strerror}"


def _range(when: str) -> tuple[int, int]:
    return SHORTEST_US, LONGEST_US[when]


def in_words(hooks: Hooks, of: str = "") -> list[str]:
    """The hooks as sentences. ``of``: the ruleset, where they are of one."""
    whose = f"of {of}: " if of else ""
    lines = []
    for name, what in (
        ("before", "before the first signal, which waits"),
        ("after", "when it is known what came of it"),
    ):
        hook: Hook | None = getattr(hooks, name)
        if hook is not None:
            patience = format_exact_duration(hook.deadline_us)
            lines.append(f"{whose}{what}: {' '.join(hook.exec)} (at most {patience})")
    if hooks.prekill_us:
        patience = format_exact_duration(hooks.prekill_us)
        lines.append(f"{whose}before the first signal, which waits: systemd's prekill hooks (at most {patience})")
    return lines
