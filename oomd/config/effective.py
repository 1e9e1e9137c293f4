"""A Config as the text that would load as the same Config: the short form expanded, every default written out."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import yaml

from oomd.config.schema import option_keys
from oomd.model.config import Config
from oomd.model.ruleset import Ruleset
from oomd.model.threshold import Threshold
from oomd.model.units import format_exact_duration, format_exact_size, format_share, format_threshold


def effective(config: Config) -> dict[str, Any]:
    """The configuration as YAML would hold it: mappings, lists and texts."""
    preferences = config.rules.preferences
    return {
        "scope": ",".join(str(part) for part in config.scope.parts),
        "budget": "none" if config.budget_bytes is None else format_exact_size(config.budget_bytes),
        "dry_run": config.dry_run,
        "rulesets": [_ruleset(ruleset) for ruleset in config.rules.rulesets],
        "protect": list(preferences.protect.patterns),
        "prefer": list(preferences.prefer.patterns),
        "avoid": list(preferences.avoid.patterns),
        "reap": {"backend": config.reap.backend, "every_exit": config.reap.every_exit},
        "log": {"format": config.log.format},
        "runtime_dir": config.runtime_dir,
    }


def to_yaml(config: Config) -> str:
    """The same as YAML text."""
    content = effective(config)
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=None))


def _ruleset(ruleset: Ruleset) -> dict[str, Any]:
    grace = [{"term": {"grace": format_exact_duration(ruleset.grace_us)}}] if ruleset.grace_us else []
    policy = {} if ruleset.policy is None else {"choose": {"policy": ruleset.policy.name}}
    return {
        "name": ruleset.name,
        "when": _groups(ruleset.when),
        **({"critical": _groups(ruleset.critical)} if ruleset.critical else {}),
        "for": format_exact_duration(ruleset.for_us),
        **policy,
        "then": [*grace, {"kill": {}}],
        "pause": format_exact_duration(ruleset.pause_us),
    }


def _groups(groups: tuple[tuple[Any, ...], ...]) -> dict[str, Any]:
    if len(groups) == 1:
        return {"all": [_detector(detector) for detector in groups[0]]}
    return {"any": [{"all": [_detector(detector) for detector in group]} for group in groups]}


def _detector(detector: Any) -> dict[str, Any]:
    options = {}
    for key, field in zip(option_keys(type(detector)), fields(detector), strict=True):
        options[key.name] = _text(getattr(detector, field.name), key.kind)
    return {detector.name: options}


def _text(value: Any, kind: str) -> str:
    if isinstance(value, Threshold):
        return format_threshold(value)
    if kind == "duration":
        return format_exact_duration(value)
    return format_share(value) if kind == "share" else str(value)
