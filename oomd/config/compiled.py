"""The configuration as plain values and back: what stage one hands to the killer, which knows no YAML."""

from __future__ import annotations

from oomd import detectors, policies
from oomd.model.config import Config, ControlOptions, LmkdOptions, LogOptions
from oomd.model.hooks import Hook, Hooks
from oomd.model.managed import ManagedOptions
from oomd.model.matching import Match, Term
from oomd.model.ruleset import Choice, Names, Preferences, ReapOptions, Rules, Ruleset
from oomd.model.scope import Scope, ScopePart
from oomd.model.steps import GENTLE
from oomd.model.telling import LowMemoryOptions, TellOptions
from oomd.model.threshold import Threshold
from oomd.model.values import fields, is_dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TYPES: dict[str, Callable[..., object]] = {
    each.__name__: each
    for each in (
        Choice,
        Config,
        ControlOptions,
        Hook,
        Hooks,
        LmkdOptions,
        LogOptions,
        LowMemoryOptions,
        ManagedOptions,
        Match,
        Names,
        Preferences,
        ReapOptions,
        Rules,
        Ruleset,
        Scope,
        ScopePart,
        TellOptions,
        Term,
        Threshold,
        *detectors.ALL,
        *policies.ALL,
        *GENTLE,
    )
}


def to_plain(value: object) -> Any:
    """Dataclasses as (name, {field: value}), tuples as lists, the rest as it is: ready for marshal."""
    if is_dataclass(value) and not isinstance(value, type):
        content = {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
        return (type(value).__name__, content)
    if isinstance(value, tuple):
        return [to_plain(each) for each in value]
    return value


def from_plain(plain: object) -> Config:
    """What :func:`to_plain` was given. Raises ValueError for anything else."""
    value = _revive(plain)
    if not isinstance(value, Config):
        raise ValueError("not a compiled configuration")  # noqa: TRY004 - the text is wrong, not a type of ours
    return value


def _revive(plain: object) -> object:
    if isinstance(plain, tuple):
        name, content = plain
        if name not in _TYPES:
            raise ValueError(f"unknown part {name!r} in a compiled configuration")
        return _TYPES[name](**{key: _revive(each) for key, each in content.items()})
    if isinstance(plain, list):
        return tuple(_revive(each) for each in plain)
    return plain
