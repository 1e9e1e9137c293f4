"""Whom a list of preferences names: matches of several conditions, as values."""

from __future__ import annotations

from oomd.model.values import dataclass

NAME = "name"
CMDLINE = "cmdline"
EXE = "exe"
USER = "user"
CGROUP = "cgroup"
UNIT = "unit"
CONTAINER = "container"
POD = "pod"

KEYS = {
    NAME: "name",
    CMDLINE: "command line",
    EXE: "executable",
    USER: "user",
    CGROUP: "cgroup",
    UNIT: "unit",
    CONTAINER: "container",
    POD: "pod",
}
"""What a condition may look at, and how it is said."""

READ = frozenset((CMDLINE, EXE))
"""What must be read of a process for it alone: never of a condemned one, whose memory the reading would pin."""


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. ``pattern`` is a glob, or a regular expression that is searched for."""

    key: str
    pattern: str
    regex: bool = False
    uids: tuple[int, ...] = ()
    """Of ``user``: whom the pattern named when the configuration was loaded."""

    def words(self) -> str:
        """``command line *postgres*``."""
        return f"{KEYS[self.key]} {f'/{self.pattern}/' if self.regex else self.pattern}"


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions that must all hold."""

    terms: tuple[Term, ...]

    def words(self) -> str:
        """``unit app.service and user alice``."""
        return " and ".join(term.words() for term in self.terms)

    @property
    def names_user(self) -> bool:
        """Whether it says whose: then what that user's own service manager calls things counts, too."""
        return any(term.key == USER for term in self.terms)
