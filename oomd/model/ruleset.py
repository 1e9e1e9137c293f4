"""Rules as values: when, whom, what then. The engine knows nothing else."""

from __future__ import annotations

from oomd.model.decision import Candidate, Credit, Evidence
from oomd.model.hooks import NO_HOOKS, Hooks
from oomd.model.matching import Match
from oomd.model.snapshot import Cgroup, MemoryStatus, ProcessId, Snapshot
from oomd.model.units import SECOND_US
from oomd.model.values import dataclass, field

TYPE_CHECKING = False  # spelled so instead of imported: `typing` costs the killer 0.7 MiB
if TYPE_CHECKING:
    from typing import Protocol

    from oomd.model.proactive import Proactive
    from oomd.model.steps import Gentle

    class Detector(Protocol):
        """A rule that says "now", with its evidence. A frozen dataclass whose fields are its options."""

        @property
        def name(self) -> str:
            """Its key in the configuration."""

        @property
        def window_us(self) -> int:
            """How much history it looks at; 0 for none."""

        @property
        def wants(self) -> Wants:
            """What it looks at besides the figures of every tick."""

        def detect(self, view: View, *, firing: bool) -> Evidence:
            """Whether it holds. ``firing`` says that its ruleset held at the last tick: hysteresis may let go a little
            later.
            """

        def words(self) -> str:
            """The rule as a sentence for people."""

    class Policy(Protocol):
        """Orders candidates. A frozen dataclass whose fields are its options."""

        @property
        def name(self) -> str:
            """Its key in the configuration."""

        @property
        def by_size(self) -> bool:
            """Whether no score is above the candidate's size: then the growth bound of the process table proves that
            nobody unread stands before the first. Else everybody is read.
            """

        @property
        def window_us(self) -> int:
            """How far back it looks at cgroups; 0 for not at all."""

        @property
        def wants(self) -> Wants:
            """What it looks at of cgroups besides what every choice among cgroups reads."""

        def rank(self, candidates: tuple[Candidate, ...], snapshot: Snapshot) -> tuple[Candidate, ...]:
            """The same candidates with their scores, best victim first."""

        def words(self) -> str:
            """The order as a sentence for people."""


@dataclass(frozen=True, slots=True)
class Wants:
    """What a rule looks at besides the few figures of every tick: only what some rule wants is read."""

    details: frozenset[str] = frozenset()
    """Fields of :class:`oomd.model.snapshot.Details`."""
    cgroups: tuple[str, ...] = ()
    """Patterns of cgroups (``/system.slice/*``)."""
    files: frozenset[str] = frozenset()
    """Files of theirs (``memory.pressure``)."""
    touches: bool = False
    """What the foremost processes touch, watched with clear_refs: not without effect on them."""


NOTHING = Wants()


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the machine, kept so that rates and windows can be told."""

    time_us: int
    some_us: int | None
    """Memory stall since boot, microseconds; None where PSI is off."""
    full_us: int | None
    status: MemoryStatus | None = None
    cgroups: tuple[Cgroup, ...] = ()


@dataclass(frozen=True, slots=True)
class MemorySample:
    """Where memory stood at one instant."""

    time_us: int
    available_bytes: int
    shmem_bytes: int


@dataclass(frozen=True, slots=True)
class FileBlame:
    """Files in tmpfs took what is missing: as it stood when that was found."""

    available_bytes: int
    shmem_bytes: int
    grown_bytes: int
    """How much they had grown."""


@dataclass(frozen=True, slots=True)
class View:
    """What detectors see: the status, what counts as available after credit, and the recent past."""

    status: MemoryStatus
    available_bytes: int
    swap_free_bytes: int
    history: tuple[Sample, ...] = ()
    """Oldest first, the present one last; empty where no rule has a window. It begins anew after every kill, so that
    old stall is not counted twice.
    """
    cgroups: tuple[Cgroup, ...] = ()
    """Those that any rule wants, as they are now."""


PROCESS = "process"
GROUP = "group"
SESSION = "session"
CGROUP = "cgroup"
PROCESS_IN = "process_in"
CGROUP_ONLY = "cgroup_only"
"""No level of a rule: what a recursive choice takes of a cgroup where processes are in it directly, beside others in
cgroups below.
"""
LEVELS = (PROCESS, GROUP, SESSION, CGROUP, PROCESS_IN)


@dataclass(frozen=True, slots=True)
class Choice:
    """``choose:`` of a ruleset: among whom, and what is taken as one."""

    level: str = PROCESS
    """``process``; ``group`` (process group) or ``session`` as one; ``cgroup`` as one; ``process_in``: one process of
    the cgroup that is chosen.
    """
    among: tuple[str, ...] = ()
    """``from:``, patterns of cgroups; empty for everybody in scope (with ``cgroup`` and ``process_in``: all cgroups at
    the top).
    """
    recursive: bool = False
    """Go down: the worst child of the worst cgroup, down to a leaf or to memory.oom.group=1."""
    most: int = 64
    """How many processes one action may take."""
    leaves: bool = False
    """With ``cgroup``: among all that have none below, or memory.oom.group=1, side by side wherever they are: what
    systemd's own settings mean.
    """


LAST_KILL, LAST_CGROUP_KILL, LAST_NOTHING = "kill", "cgroup_kill", ""
"""How a ladder ends."""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """OR of AND-groups of detectors, a policy, and what happens then."""

    name: str
    when: tuple[tuple[Detector, ...], ...]
    """The alarm: any group, all of whose detectors hold. The victim is asked to go (SIGTERM)."""
    critical: tuple[tuple[Detector, ...], ...] = ()
    """The level at which there is no time to ask (SIGKILL at once, also for victims that were asked)."""
    policy: Policy | None = None
    choice: Choice = Choice()
    for_us: int = 0
    """How long the alarm must hold before anything is done; the critical level never waits."""
    grace_us: int = 5 * SECOND_US
    """Between SIGTERM and SIGKILL; 0 kills at once."""
    pause_us: int = 0
    """How long this ruleset rests after it acted; the critical level never rests."""
    steps: tuple[Gentle, ...] = ()
    """What is tried before anybody is signalled, one after the other while the alarm holds."""
    last: str = LAST_KILL
    """``kill``, ``cgroup_kill``, or nothing: then nobody is ever signalled, and there is no critical level."""
    hooks: Hooks | None = None
    """Of this ruleset, in the place of those for all."""


@dataclass(frozen=True, slots=True)
class Names:
    """Processes by their name (``comm``): shell-style patterns, where ``*``, ``?`` and ``[…]`` work, compared on the
    kernel's 15 bytes; and processes by other conditions.
    """

    patterns: tuple[str, ...] = ()
    matches: tuple[Match, ...] = ()
    embedded: tuple[str, ...] = ()
    """Those of the patterns that came with oomd, not from the operator: they count only for trusted processes."""

    @property
    def own(self) -> tuple[str, ...]:
        """The patterns that the operator wrote."""
        if not self.embedded:
            return self.patterns
        return tuple(pattern for pattern in self.patterns if pattern not in self.embedded)


NEVER = "never"
LAST_RESORT = "last_resort"


@dataclass(frozen=True, slots=True)
class Preferences:
    """Who is never taken, taken first, taken last."""

    protect: Names = Names()
    prefer: Names = Names()
    avoid: Names = Names()
    omit: str = NEVER
    """What cgroups with the mark ``omit`` are taken for: ``never``, or ``last_resort`` when nobody else is left."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """The gentle step that a ruleset has begun last, while its alarm holds."""

    step: int
    """Its place in ``steps``."""
    decision_id: str
    since_us: int
    ends_us: int
    """The next step is due then; at once when the step is through."""
    available_bytes: int
    """What was available when it was begun (per-CPU lists included)."""
    swap_free_bytes: int
    done_us: int | None = None
    """When it had done all that was asked of it: what follows until the next step is due only shows whether that was
    enough. None while it has not, and where there was no more to be done."""


@dataclass(frozen=True, slots=True)
class RulesetState:
    """What a ruleset remembers from tick to tick."""

    since_us: int | None = None
    critical_since_us: int | None = None
    paused_until_us: int = 0
    cgroups_since_us: tuple[tuple[int, str, int], ...] = ()
    """For detectors that look at cgroups: which detector (its place), which cgroup, since when it holds there without
    a break. One cgroup's time is never counted for another.
    """
    ladder: Ladder | None = None
    next_step: int = 0
    """Which step is to be begun next; behind the last one: whoever is chosen is signalled."""
    quiet_since_us: int | None = None
    """Since when the alarm holds no longer, after steps were begun: for a while the ladder goes on where it was."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A process that could not be killed (not permitted, out of scope, stuck), left out of the choice until it ends."""

    id: ProcessId
    why: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Until then nobody new is chosen (``oomd pause``)."""

    since_us: int
    until_us: int
    why: str = ""
    """The reason that was given; may be empty."""
    by: str = ""
    """Who asked, in words."""


@dataclass(frozen=True, slots=True)
class EngineState:
    """All that the engine remembers between ticks; bounded."""

    rulesets: tuple[RulesetState, ...] = ()
    history: tuple[Sample, ...] = ()
    trail: tuple[MemorySample, ...] = ()
    """How memory came to be short, oldest first: :mod:`oomd.engine.blame`."""
    blame: FileBlame | None = None
    credits: tuple[Credit, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    futile_kills: int = 0
    """Kills in a row that returned almost nothing."""
    resting_until_us: int = 0
    """Backing off after futile kills: nothing is done before."""
    pause: Pause | None = None
    """Somebody asked for it; one that is over says nothing."""


OFF, PRESSURE, ALWAYS = "off", "pressure", "always"
"""When the end of processes that somebody else killed is hastened: never, in need, always."""


@dataclass(frozen=True, slots=True)
class ReapOptions:
    """``reap:`` of the configuration."""

    backend: str = "auto"
    """``auto``, ``mrelease``, ``expedite`` or ``none``."""
    every_exit: str = OFF
    workers: int = 4
    """Threads that kill and reap."""
    expedite_mrelease: bool = True
    """Whether expedite may use process_mrelease where the kernel has it."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The part of the configuration that the engine reads; replaced as a whole by a reload."""

    rulesets: tuple[Ruleset, ...]
    preferences: Preferences = field(default_factory=Preferences)
    proactive: Proactive | None = None
    """None: nothing is taken before there is an alarm."""
    hooks: Hooks = NO_HOOKS

    def hooks_of(self, ruleset: str) -> Hooks:
        """What is run for the decisions of this ruleset; of one that is gone, what is run for all."""
        own = next((each.hooks for each in self.rulesets if each.name == ruleset), None)
        return self.hooks if own is None else own
