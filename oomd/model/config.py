"""The configuration in force, as plain values: what the loader makes, what the killer receives."""

from __future__ import annotations

from dataclasses import dataclass, field

from oomd.model.ruleset import ReapOptions, Rules
from oomd.model.scope import Scope


@dataclass(frozen=True, slots=True)
class LogOptions:
    """``log:`` of the configuration."""

    format: str = "text"
    """``text``, ``json`` or ``journal``."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a user can set, resolved: the short form already expanded into rulesets."""

    rules: Rules
    scope: Scope = field(default_factory=Scope)
    budget_bytes: int | None = None
    dry_run: bool = False
    reap: ReapOptions = field(default_factory=ReapOptions)
    log: LogOptions = field(default_factory=LogOptions)
    runtime_dir: str = ""


def changes_that_need_a_restart(old: Config, new: Config) -> list[str]:
    """What a reload cannot change, in words."""
    fields = ("scope", "budget_bytes", "dry_run", "runtime_dir", "reap", "log")
    return [
        f"{field.removesuffix('_bytes')}: changed; that needs a restart"
        for field in fields
        if getattr(old, field) != getattr(new, field)
    ]
