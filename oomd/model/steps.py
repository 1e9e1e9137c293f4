"""The steps of a ladder (``then:``), each declared once: its name, its options with their defaults, what it means. The
loader, ``check``, ``actions`` and the reports derive from here; what carries them out is in :mod:`oomd.kill`.

Gentle steps come first and may make a kill unnecessary: one that frees enough, so that the alarm no longer holds, ends
the ladder. At the critical level all of them are passed over.
"""

from __future__ import annotations

from oomd.model.threshold import Threshold
from oomd.model.units import SECOND_US, format_duration, format_share, format_threshold
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.units import CgroupGlob, Share

LONGEST_US = 3600 * SECOND_US
_TIMEOUT = "how long it is given until the next step, if the alarm holds on"
_OF = "cgroups, of which the largest is taken; left out: the one that is chosen, or that the chosen process lies in"
_AT_MOST = "the longest that it stays in force; else until the alarm ends, or somebody is signalled"
_TIMES = {"timeout": (0, LONGEST_US), "at_most": (SECOND_US, LONGEST_US)}
_LEAST = {"timeout": (SECOND_US // 10, LONGEST_US)}


@dataclass(frozen=True, slots=True)
class NotifyStep:
    """Nothing is done: people are told, and have time to close something."""

    timeout_us: int = 0
    name = "notify"
    meaning = "tells that memory is short and who is foremost, and waits"
    meanings = {"timeout": "how long to wait until the next step, if the alarm holds on"}
    ranges = {"timeout": _TIMES["timeout"]}

    def words(self) -> str:
        """The step as a sentence."""
        return f"tell people{_wait(self.timeout_us)}"


@dataclass(frozen=True, slots=True)
class ReclaimStep:
    """Cold pages are taken from a cgroup (memory.reclaim, Linux 5.19), or from the chosen process where there is swap
    (process_madvise with MADV_PAGEOUT, 5.10).
    """

    amount: Threshold = Threshold(share=0.05)
    of: CgroupGlob = ""
    timeout_us: int = 10 * SECOND_US
    name = "reclaim"
    meaning = "takes cold pages from a cgroup, or swaps out the chosen process"
    meanings = {
        "amount": "how much; a share is of MemAvailable + AnonPages (or of the budget)",
        "of": "cgroups, of which the one with the most inactive memory is taken; left out: what the ruleset chooses",
        "timeout": f"{_TIMEOUT}; reclaim ends then",
    }
    ranges = _LEAST

    def words(self) -> str:
        """The step as a sentence."""
        return f"reclaim {format_threshold(self.amount)} of {_whose(self.of)}{_wait(self.timeout_us)}"


@dataclass(frozen=True, slots=True)
class ThrottleStep:
    """memory.high is set to what the cgroup uses, or a share of that: whoever wants more there is slowed down by the
    kernel, and must give back first. The former value is put back.
    """

    to: Share = 1.0
    of: CgroupGlob = ""
    timeout_us: int = 10 * SECOND_US
    at_most_us: int = 60 * SECOND_US
    name = "throttle"
    meaning = "keeps a cgroup from growing (memory.high), and puts the former limit back afterwards"
    meanings = {
        "to": "the limit, as a share of what the cgroup uses at that moment",
        "of": _OF,
        "timeout": _TIMEOUT,
        "at_most": _AT_MOST,
    }
    ranges = {**_LEAST, "at_most": _TIMES["at_most"], "to": (0.1, 1.0)}

    def words(self) -> str:
        """The step as a sentence."""
        limit = f"what it uses (for at most {format_duration(self.at_most_us)})"
        limit = limit if self.to == 1 else f"{format_share(self.to)} of {limit}"
        return f"throttle {_whose(self.of)} to {limit}{_wait(self.timeout_us)}"


@dataclass(frozen=True, slots=True)
class FreezeStep:
    """Nobody in the cgroup runs (cgroup.freeze of version 2), so that it neither grows nor touches its memory; it is
    thawed when the alarm ends, at the latest after ``at_most``.
    """

    of: CgroupGlob = ""
    timeout_us: int = 10 * SECOND_US
    at_most_us: int = 30 * SECOND_US
    name = "freeze"
    meaning = "stops a cgroup (cgroup.freeze) and thaws it afterwards; never what the user is looking at"
    meanings = {"of": _OF, "timeout": _TIMEOUT, "at_most": _AT_MOST}
    ranges = {**_LEAST, "at_most": _TIMES["at_most"]}

    def words(self) -> str:
        """The step as a sentence."""
        return f"freeze {_whose(self.of)} (for at most {format_duration(self.at_most_us)}){_wait(self.timeout_us)}"


@dataclass(frozen=True, slots=True)
class RestartStep:
    """A service is restarted by the system's manager, which stops it as its unit says: asked for over D-Bus by the
    outside process.
    """

    unit: str = ""
    timeout_us: int = 30 * SECOND_US
    name = "restart_unit"
    meaning = "has the system's manager restart a service"
    meanings = {
        "unit": "nginx.service (or nginx); left out: the service that the chosen process belongs to",
        "timeout": _TIMEOUT,
    }
    ranges = _LEAST

    def words(self) -> str:
        """The step as a sentence."""
        return f"restart {self.unit or 'the service that is chosen'}{_wait(self.timeout_us)}"

    @property
    def unit_name(self) -> str:
        """With its kind; empty for the one that is chosen."""
        return self.unit if not self.unit or self.unit.endswith(".service") else f"{self.unit}.service"


@dataclass(frozen=True, slots=True)
class TermStep:
    """SIGTERM."""

    grace_us: int = 5 * SECOND_US
    name = "term"
    meaning = "SIGTERM first: the victim may save and go by itself"
    meanings = {"grace": "how long the victim has to go by itself; less when memory keeps falling"}


@dataclass(frozen=True, slots=True)
class KillStep:
    """SIGKILL."""

    name = "kill"
    meaning = "SIGKILL, and its memory back at once; the last step of a ladder"


@dataclass(frozen=True, slots=True)
class CgroupKillStep:
    """SIGKILL for a whole cgroup by one write."""

    name = "cgroup_kill"
    meaning = "the same for a whole cgroup by one write (cgroup.kill), newcomers too; with choose: {level: cgroup}"


GENTLE = (NotifyStep, ReclaimStep, ThrottleStep, FreezeStep, RestartStep)
"""What may come before a signal, in any order and more than once."""
ALL = (*GENTLE, TermStep, KillStep, CgroupKillStep)
"""Every step, in the order of a ladder."""

Gentle = NotifyStep | ReclaimStep | ThrottleStep | FreezeStep | RestartStep


def _whose(of: str) -> str:
    return " or ".join(of.split(",")) if of else "what is chosen"


def _wait(timeout_us: int) -> str:
    return f", wait {format_duration(timeout_us)}" if timeout_us else ""
