"""Loads the configuration: YAML nodes to a Config, or every Problem at once.

What builds a part is loaded where that part is there: `oomd run` must be ready soon.
"""

from __future__ import annotations

import os

from oomd.config.expand import Level, Stall, level_ruleset, stall_ruleset
from oomd.config.nodes import Walker, is_mapping, is_off, is_sequence
from oomd.config.preferences import build_preferences
from oomd.config.problems import Problem
from oomd.config.schema import KEYS, LEVEL_KEYS, STALL_KEYS
from oomd.config.telling import build_tell
from oomd.detectors.pressure import PressureShare
from oomd.model.config import Config, ControlOptions, LmkdOptions, LogOptions, MetricsOptions
from oomd.model.hooks import NO_HOOKS, Hooks
from oomd.model.managed import OFF as NOT_MANAGED
from oomd.model.managed import ManagedOptions
from oomd.model.proactive import Proactive
from oomd.model.ruleset import OFF, ReapOptions, Rules, Ruleset
from oomd.model.scope import Scope
from oomd.model.units import SECOND_US

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import yaml

MOST_BYTES = 1 << 20
"""A configuration larger than this is somebody else's file."""
RANGES = {"over": PressureShare.ranges["over"], "term": PressureShare.ranges["above"]}
MANAGED_RANGES = {
    "swap_limit": (0.01, 1.0),
    "pressure_limit": (0.01, 1.0),
    "pressure_duration": (SECOND_US, 86400 * SECOND_US),
}
_MANAGED_FIELDS = {"pressure_duration": "pressure_duration_us"}
MOST_VALUES = 10_000
"""So many values, aliases followed, is a configuration that nobody wrote by hand."""
_BY_NAME = {key.name: key for key in KEYS}
_LEVEL_FIELDS = {"grace": "grace_us"}
_STALL_FIELDS = {"grace": "grace_us", "over": "over_us"}


def load_config(
    path: str | None, *, overrides: dict[str, str] | None = None, text: bytes | None = None
) -> Config | list[Problem]:
    """The configuration of a file (None: the embedded default) with what the command line says of it.

    ``overrides`` maps keys (``budget``, ``log.format``) to the texts of their options; a mistake there names the
    option. ``text`` takes the place of the file's content; ``path`` only names it then.
    """
    problems: list[Problem] = []
    walker = Walker(path or "", problems, from_file=text is None)
    root = None if path is None else _compose(path, problems, text)
    nodes = {} if root is None else walker.mapping(root, "", _BY_NAME)
    values = _plain_values(walker, nodes)
    _override(values, overrides or {}, problems)
    reap = ReapOptions(**values.get("reap", {}))
    if reap.backend == "none" and reap.every_exit != OFF:
        where = walker.value_of(nodes["reap"], "every_exit")
        walker.problem(where, "reap.every_exit", "has no effect with backend: none")
    lmkd = _lmkd(walker, nodes, values.get("lmkd"))
    managed = _managed(walker, nodes, values.get("managed", {}))
    tell = build_tell(walker, nodes.get("tell"))
    hooks = _hooks(walker, nodes["hooks"]) if "hooks" in nodes else NO_HOOKS
    rulesets = () if lmkd is not None and lmkd.only else _rulesets(walker, nodes, managed)
    preferences = build_preferences(walker, nodes, values.get("omit", "never"))
    proactive = _proactive(walker, nodes) if "proactive" in nodes else None
    if problems:
        return sorted(set(problems))
    return Config(
        rules=Rules(rulesets, preferences, proactive, hooks),
        scope=values.get("scope", Scope()),
        budget_bytes=values.get("budget") or None,
        dry_run=values.get("dry_run", False),
        reap=reap,
        log=LogOptions(**values.get("log", {})),
        runtime_dir=values.get("runtime_dir", ""),
        lmkd=lmkd,
        managed=managed,
        metrics=MetricsOptions(**values.get("metrics", {})),
        tell=tell,
        control=ControlOptions(**values.get("control", {})),
    )


def default_config() -> Config:
    """The embedded default."""
    config = load_config(None)
    assert isinstance(config, Config)
    return config


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(MOST_BYTES + 1)


def _compose(path: str, problems: list[Problem], text: bytes | None = None) -> yaml.Node | None:
    """The root node; None for an empty file, or after a problem."""
    import yaml  # which nobody needs who has no file

    data = text or b""
    try:
        data = _read(path) if text is None else text
        if len(data) > MOST_BYTES:
            problems.append(Problem(path, 1, 1, "", "is larger than 1 MiB: not a configuration of oomd"))
            return None
        root = _quickly(data.decode("utf-8"))
        if root is not None and _expanded(root, {}) > MOST_VALUES:
            problems.append(
                Problem(path, 1, 1, "", f"has more than {MOST_VALUES} values once its aliases are followed")
            )
            return None
    except OSError as error:
        problems.append(Problem(path, 1, 1, "", f"cannot be read: {error.strerror or error}"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        problems.append(Problem(path, line, column, "", "is not UTF-8 text"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problems.append(Problem(path, line, column, "", f"is not YAML: {error.problem or error.context}"))
    except yaml.reader.ReaderError as error:
        before = data.decode("utf-8")[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        problems.append(Problem(path, line, column, "", f"is not YAML: {error.reason}"))
    except RecursionError:
        problems.append(Problem(path, 1, 1, "", "is nested too deeply"))
    except (ValueError, OverflowError) as error:
        # PyYAML lets int() and chr() speak for themselves, as for the escape "\UFFFFFFFF".
        problems.append(Problem(path, 1, 1, "", f"is not YAML: {error}"))
    else:
        return root
    return None


def _quickly(text: str) -> yaml.Node | None:
    """By libyaml, which takes a tenth of the time, where it is there and has nothing to complain of: what is wrong is
    said by PyYAML's own parser. Raises yaml.YAMLError, RecursionError, ValueError.
    """
    import yaml

    try:
        return yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError):
        return yaml.compose(text, Loader=yaml.SafeLoader)


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values the walk would meet: every alias is followed, so that a short file can be endless."""
    size = known.get(id(node))
    if size is not None:
        return size
    known[id(node)] = MOST_VALUES + 1  # met again while its own values are counted: it holds itself
    size = 1
    if is_mapping(node):
        size += sum(_expanded(key, known) + _expanded(value, known) for key, value in node.value)
    elif is_sequence(node):
        size += sum(_expanded(each, known) for each in node.value)
    known[id(node)] = size
    return size


def _plain_values(walker: Walker, nodes: dict[str, yaml.Node]) -> dict[str, Any]:
    """The keys that are one value, or a mapping of such."""
    values: dict[str, Any] = {}
    for name, node in nodes.items():
        key = _BY_NAME[name]
        if key.kind == "mapping":
            values[name] = walker.options(node, name, key.keys)
        elif key.kind in ("scope", "size", "bool", "text", "choice"):
            value = walker.scalar(node, name, key)
            if value is not None:
                values[name] = value
    return values


def _override(values: dict[str, Any], overrides: dict[str, str], problems: list[Problem]) -> None:
    """What the command line says takes the place of what the file says, key by key."""
    for path, text in overrides.items():
        name, _, inner = path.partition(".")
        key = _BY_NAME[name]
        if inner:
            key = next(each for each in key.keys if each.name == inner)
        option = "--" + path.replace(".", "-").replace("_", "-")
        value = Walker.convert(text, key, _teller(option, problems))
        if value is not None:
            values[name] = {**values.get(name, {}), inner: value} if inner else value


def _teller(option: str, problems: list[Problem]) -> Callable[[str], None]:
    return lambda message: problems.append(Problem(option, 0, 0, "", message))


def _rulesets(walker: Walker, nodes: dict[str, yaml.Node], managed: ManagedOptions) -> tuple[Ruleset, ...]:
    if "rulesets" in nodes:
        for name in ("level", "stall"):
            if name in nodes:
                walker.problem(nodes[name], name, "has no effect beside rulesets, which replace it; remove one of them")
        from oomd.config.rulesets import build_rulesets

        return build_rulesets(walker, nodes["rulesets"])
    rulesets = []
    if "level" not in nodes or not is_off(nodes["level"]):
        rulesets.append(level_ruleset(_level(walker, nodes.get("level"))))
    if "stall" not in nodes or not is_off(nodes["stall"]):
        rulesets.append(stall_ruleset(_stall(walker, nodes.get("stall"))))
    if not rulesets and managed.systemd == NOT_MANAGED:
        walker.problem(nodes["stall"], "stall", "level and stall are both off: nothing would ever be done")
    return tuple(rulesets)


def _hooks(walker: Walker, node: yaml.Node) -> Hooks:
    from oomd.config.hooks import build_hooks

    return build_hooks(walker, node, "hooks")


def _proactive(walker: Walker, nodes: dict[str, yaml.Node]) -> Proactive | None:
    from oomd.config.proactive import build_proactive

    return build_proactive(walker, nodes)


def _lmkd(walker: Walker, nodes: dict[str, yaml.Node], values: dict[str, Any] | None) -> LmkdOptions | None:
    if values is None and "lmkd" not in nodes:
        return None
    from oomd.config.lmkd import build_lmkd

    return build_lmkd(walker, nodes, values)


def _managed(walker: Walker, nodes: dict[str, yaml.Node], values: dict[str, Any]) -> ManagedOptions:
    if "managed" in nodes:
        walker.ranges(nodes["managed"], "managed", values, MANAGED_RANGES)
    return ManagedOptions(**{_MANAGED_FIELDS.get(name, name): value for name, value in values.items()})


def _level(walker: Walker, node: yaml.Node | None) -> Level:
    if node is None:
        return Level()
    values = walker.options(node, "level", LEVEL_KEYS)
    level = Level(**{_LEVEL_FIELDS.get(name, name): value for name, value in values.items()})
    if level.term.is_nothing:
        walker.problem(walker.value_of(node, "term"), "level.term", "would never hold; level: off drops the ruleset")
    if level.kill is not None and level.kill.may_exceed(level.term):
        where = walker.value_of(node, "kill")
        walker.problem(where, "level.kill", "is above level.term: nobody would ever be asked to go")
    return level


def _stall(walker: Walker, node: yaml.Node | None) -> Stall:
    if node is None:
        return Stall()
    values = walker.options(node, "stall", STALL_KEYS)
    stall = Stall(**{_STALL_FIELDS.get(name, name): value for name, value in values.items()})
    if stall.kill < stall.term:
        where = walker.value_of(node, "kill")
        walker.problem(where, "stall.kill", "is below stall.term: nobody would ever be asked to go")
    walker.ranges(node, "stall", {"over": stall.over_us, "term": stall.term}, RANGES)
    return stall


def describe_file(path: str | None) -> str:
    """What is loaded, in words."""
    return "the embedded default" if path is None else os.path.abspath(path)
