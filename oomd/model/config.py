"""The configuration in force, as plain values: what the loader makes, what the killer receives."""

from __future__ import annotations

from oomd.model.managed import OFF, ManagedOptions
from oomd.model.ruleset import ReapOptions, Rules
from oomd.model.scope import Scope
from oomd.model.telling import TellOptions
from oomd.model.values import dataclass, field


@dataclass(frozen=True, slots=True)
class LogOptions:
    """``log:`` of the configuration."""

    format: str = "text"
    """``text``, ``json`` or ``journal``."""


@dataclass(frozen=True, slots=True)
class MetricsOptions:
    """``metrics:`` of the configuration."""

    listen: tuple[str, ...] = ()
    """Where the outside process serves them: ``127.0.0.1:9779``, ``[::1]:9779``, ``:9779``, ``unix:/PATH``; empty:
    nowhere.
    """
    textfile: str = ""
    """The file that is written for node_exporter's textfile collector; empty: none."""


@dataclass(frozen=True, slots=True)
class LmkdOptions:
    """``lmkd:`` of the configuration: oomd in the place of Android's lmkd."""

    socket: str = "/dev/socket/lmkd"
    """Where to listen, unless init or systemd has left a socket."""
    protocol: str = "A15"
    """``A11``, ``A15`` or ``A17``: the Android release whose packets are spoken."""
    compatible: bool = False
    """Whether one client too many replaces all others, and who sends is not looked at."""
    only: bool = False
    """No other rule is in force."""
    properties: str = ""
    """A file of properties, ``name=value`` per line; empty: the defaults."""
    override: tuple[str, ...] = ()
    """Properties that take the place of those of the file, ``name=value`` each."""
    log: str = ""
    """Where log lines go in logcat's shape; empty: with the other reports."""


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """``control:`` of the configuration: the socket that ``oomd status`` and its kin talk to."""

    enabled: bool = True
    group: str = ""
    """Whose members may read, by name or number; empty: root and oomd's own user only."""


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
    lmkd: LmkdOptions | None = None
    """None: nobody listens."""
    managed: ManagedOptions = field(default_factory=ManagedOptions)
    metrics: MetricsOptions = field(default_factory=MetricsOptions)
    tell: TellOptions = TellOptions()
    control: ControlOptions = field(default_factory=ControlOptions)

    @property
    def has_rules(self) -> bool:
        """Whether there are rulesets, or may be once units have told their settings."""
        return bool(self.rules.rulesets) or self.managed.systemd != OFF


def changes_that_need_a_restart(old: Config, new: Config) -> list[str]:
    """What a reload cannot change, in words."""
    fields = ("scope", "budget_bytes", "dry_run", "runtime_dir", "reap", "log", "lmkd", "metrics", "control", "tell")
    changed = [field.removesuffix("_bytes") for field in fields if getattr(old, field) != getattr(new, field)]
    changed += ["managed.systemd"] if old.managed.systemd != new.managed.systemd else []
    return [f"{name}: changed; that needs a restart" for name in changed]
