"""A Config as the text that would load as the same Config: the short form expanded, every default written out."""

from __future__ import annotations

from oomd.config.preferences import plain_list
from oomd.config.schema import LOW_MEMORY_KEYS, option_keys, option_text
from oomd.model.config import Config, LmkdOptions
from oomd.model.hooks import NO_HOOKS, Hooks
from oomd.model.ruleset import Ruleset
from oomd.model.telling import TellOptions
from oomd.model.units import format_exact_duration, format_exact_size, format_share
from oomd.model.values import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def effective(config: Config) -> dict[str, Any]:
    """The configuration as YAML would hold it: mappings, lists and texts."""
    return {
        "scope": ",".join(str(part) for part in config.scope.parts),
        "budget": "none" if config.budget_bytes is None else format_exact_size(config.budget_bytes),
        "dry_run": config.dry_run,
        **_rules(config),
        **_preferences(config),
        "reap": {
            "backend": config.reap.backend,
            "workers": config.reap.workers,
            "expedite_mrelease": config.reap.expedite_mrelease,
            "every_exit": config.reap.every_exit,
        },
        "log": {"format": config.log.format},
        "managed": {
            "systemd": config.managed.systemd,
            "swap_limit": format_share(config.managed.swap_limit),
            "pressure_limit": format_share(config.managed.pressure_limit),
            "pressure_duration": format_exact_duration(config.managed.pressure_duration_us),
        },
        "metrics": {
            "listen": ", ".join(config.metrics.listen) or "off",
            "textfile": config.metrics.textfile or "off",
        },
        "control": {"enabled": config.control.enabled, "group": config.control.group},
        **({} if config.rules.proactive is None else _named(config.rules.proactive)),
        "tell": _tell(config.tell),
        **_hooks(config.rules.hooks),
        **_lmkd(config.lmkd),
        "runtime_dir": config.runtime_dir,
    }


def to_yaml(config: Config) -> str:
    """The same as YAML text."""
    content = effective(config)
    import yaml

    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=None))


def _rules(config: Config) -> dict[str, Any]:
    """The rulesets; that there are none is said where the defaults would stand in their place."""
    if config.rules.rulesets:
        return {"rulesets": [_ruleset(ruleset) for ruleset in config.rules.rulesets]}
    return {} if config.lmkd is not None and config.lmkd.only else {"level": "off", "stall": "off"}


def _preferences(config: Config) -> dict[str, Any]:
    """Nothing where they have no say."""
    if config.lmkd is not None and config.lmkd.only:
        return {}
    preferences = config.rules.preferences
    return {
        "protect": plain_list(preferences.protect),
        "prefer": plain_list(preferences.prefer),
        "avoid": plain_list(preferences.avoid),
        "omit": preferences.omit,
    }


def _tell(tell: TellOptions) -> dict[str, Any]:
    low = tell.low_memory_monitor
    return {
        "kmsg": tell.kmsg,
        "wall": tell.wall,
        "desktop": tell.desktop,
        "low_memory_monitor": "off"
        if low is None
        else {key.name: option_text(getattr(low, key.name), key.kind) for key in LOW_MEMORY_KEYS},
    }


def _hooks(hooks: Hooks | None) -> dict[str, Any]:
    """Nothing where there are none; for a ruleset none of its own is another thing than no hooks at all."""
    if hooks is None or hooks == NO_HOOKS:
        return {} if hooks is None else {"hooks": {}}
    programs = {name: getattr(hooks, name) for name in ("before", "after")}
    return {
        "hooks": {
            **{
                name: {"exec": list(hook.exec), "deadline": format_exact_duration(hook.deadline_us)}
                for name, hook in programs.items()
                if hook is not None
            },
            "prekill": format_exact_duration(hooks.prekill_us),
        }
    }


def _lmkd(lmkd: LmkdOptions | None) -> dict[str, Any]:
    if lmkd is None:
        return {}
    values = {field.name: getattr(lmkd, field.name) for field in fields(lmkd)}
    return {"lmkd": {**values, "override": list(lmkd.override)}}


def _ruleset(ruleset: Ruleset) -> dict[str, Any]:
    return {
        "name": ruleset.name,
        "when": _groups(ruleset.when),
        **({"critical": _groups(ruleset.critical)} if ruleset.critical else {}),
        "for": format_exact_duration(ruleset.for_us),
        "choose": _choice(ruleset),
        "then": _ladder(ruleset),
        "pause": format_exact_duration(ruleset.pause_us),
        **_hooks(ruleset.hooks),
    }


def _ladder(ruleset: Ruleset) -> list[dict[str, Any]]:
    grace = {"term": {"grace": format_exact_duration(ruleset.grace_us)}}
    steps = [_named(step) for step in ruleset.steps]
    if ruleset.last:
        steps += [*([grace] if ruleset.grace_us else []), {ruleset.last: {}}]
    return steps


def _choice(ruleset: Ruleset) -> dict[str, Any]:
    choice = ruleset.choice
    policy = {} if ruleset.policy is None else {"policy": _named(ruleset.policy)}
    return {
        **({"from": list(choice.among)} if choice.among else {}),
        "level": choice.level,
        **policy,
        **({"recursive": True} if choice.recursive else {}),
        **({"leaves": True} if choice.leaves else {}),
        "most": choice.most,
    }


def _groups(groups: tuple[tuple[Any, ...], ...]) -> dict[str, Any]:
    if len(groups) == 1:
        return {"all": [_named(detector) for detector in groups[0]]}
    return {"any": [{"all": [_named(detector) for detector in group]} for group in groups]}


def _named(declared: Any) -> dict[str, Any]:
    """A detector or policy with its options; those that say nothing are left out."""
    options = {}
    for key, field in zip(option_keys(type(declared)), fields(declared), strict=True):
        value = getattr(declared, field.name)
        if value is not None and value != "":
            options[key.name] = option_text(value, key.kind)
    return {declared.name: options}
