"""The configuration as plain values and back: what stage one hands to the killer, which knows no YAML."""

from __future__ import annotations

from oomd import detectors, policies
from oomd.model.config import Config, ControlOptions, LmkdOptions, LogOptions, MetricsOptions
from oomd.model.hooks import Hook, Hooks
from oomd.model.managed import ManagedOptions
from oomd.model.matching import Match, Term
from oomd.model.proactive import Proactive
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
        MetricsOptions,
        Names,
        Preferences,
        Proactive,
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


_AS_IT_IS = frozenset((int, str, float, bool, type(None)))
_names: dict[type, tuple[str, ...]] = {}


def to_plain(value: object) -> Any:
    """Dataclasses as (name, {field: value}), tuples as lists, the rest as it is: ready for marshal."""
    kind = type(value)
    if kind in _AS_IT_IS:
        return value
    if kind is tuple:
        assert isinstance(value, tuple)
        return [each if type(each) in _AS_IT_IS else to_plain(each) for each in value]
    names = _names.get(kind)
    if names is None:
        if not is_dataclass(value):
            return value
        names = _names[kind] = tuple(field.name for field in fields(value))
    # Thousands of fields stand in one recorded decision: what needs no look is given none.
    content = {}
    for name in names:
        each = getattr(value, name)
        content[name] = each if type(each) in _AS_IT_IS else to_plain(each)
    return (kind.__name__, content)


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
