"""What was seen, what was decided, and what came of it: values with all their reasons, not calls."""

from __future__ import annotations

from oomd.model.snapshot import Cgroup, MemoryStatus, Process, ProcessId
from oomd.model.values import dataclass


@dataclass(frozen=True, slots=True)
class Evidence:
    """One detector's answer. ``text`` says it to people, the rest to programs."""

    detector: str
    holds: bool
    text: str
    value: float | None = None
    """Bytes for amounts, a fraction for shares; None when it could not be told."""
    limit: float | None = None
    window_us: int | None = None
    cgroups: tuple[str, ...] = ()
    """The cgroups for which it holds; empty where it looks at the machine."""
    after_credit: bool = False
    """Whether what kills under way will give back is counted in (or their stall left out): only then may it ask for
    another victim while one is dying.
    """


ASKED = "asked"
"""In the place of a detector's name: somebody asked for a victim (``oomd kill-now``)."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One ruleset's answer at one tick."""

    ruleset: str
    fired: bool
    """The alarm holds, after credit."""
    critical: bool
    """It holds at the level at which no grace is given, after the credit of victims that were really killed."""
    since_us: int | None
    """When it began to hold (CLOCK_MONOTONIC); None when it does not."""
    evidence: tuple[Evidence, ...] = ()
    step: int = 0
    """The step of the ladder that is due; behind the gentle ones: somebody is signalled."""
    waits: bool = False
    """A step was begun and has time yet, or the ladder is at its end: nothing is due."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A process that may be killed, and what that would give back."""

    process: Process
    freeable_bytes: int
    measured: str
    """Where ``freeable_bytes`` comes from: ``private`` (smaps_rollup) or ``size`` (RssAnon + VmSwap)."""
    preference: str
    """``prefer``, ``normal``, ``avoid`` or ``omit`` (a mark that is relaxed as the last resort)."""
    score: int
    because: str = ""
    """Which match, mark or class made it preferred, avoided or omitted, in words."""
    standing: int = 0
    """Among candidates of the same preference lower ones go first, whatever their score (Kubernetes' classes)."""
    kind: str = "process"
    """What is taken as one: ``process``, ``group``, ``session`` or ``cgroup``. ``process`` is then the largest member.
    """
    name: str = ""
    """The cgroup's path, the number of the group or session; empty for a process."""
    members: tuple[Process, ...] = ()
    """All that die with it, largest first; empty for a process."""
    part_of: str = ""
    """What it dies with (``cgroup /a``), where it is one of several that die as one."""
    cgroup: Cgroup | None = None
    """The cgroup that it is, or (with ``process``) lies in, where cgroups were looked at."""

    @property
    def processes(self) -> tuple[Process, ...]:
        """Everybody who dies."""
        return self.members or (self.process,)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A process (or what holds it: a group, session or cgroup) that may not be killed, and why."""

    process: Process
    why: str
    kind: str = "process"
    name: str = ""


NO_ACTION = "none"
NOTIFY = "notify"
RECLAIM = "reclaim"
THROTTLE = "throttle"
FREEZE = "freeze"
RESTART_UNIT = "restart_unit"
TERM = "term"
KILL = "kill"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now, with all its reasons."""

    action: str
    """``none``, ``notify``, ``reclaim``, ``throttle``, ``freeze``, ``restart_unit``, ``term`` or ``kill``."""
    reason: str
    status: MemoryStatus
    ruleset: str = ""
    detections: tuple[Detection, ...] = ()
    target: Candidate | None = None
    ranking: tuple[Candidate, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    grace_us: int = 0
    """How long the victim has between SIGTERM and SIGKILL; only with ``term``."""
    step: int | None = None
    """The place in its ruleset's ladder, for a gentle step."""
    step_us: int = 0
    """How long that step is given until the next one."""
    whole_cgroup: bool = False
    """The target is killed by cgroup.kill, where that can be done; the last step of its ladder says so."""


@dataclass(frozen=True, slots=True)
class Times:
    """The way to a signal, in microseconds of CLOCK_MONOTONIC (as every ``…_us`` of a status): their differences tell
    how long each step took.
    """

    wake_us: int
    """The wait returned."""
    read_us: int
    """The machine's memory was read."""
    decided_us: int
    """The victim was chosen."""
    signalled_us: int | None = None
    """The signal was sent; None where nobody was signalled, or it was not known yet when the decision was told."""
    lag_us: int = 0
    """How much later than asked for the wait returned: what others did to this loop; 0 where an event ended it."""
    hooks_us: int = 0
    """How long the signal was held back for hooks, before this wake-up."""
    scans: int = 0
    """How often the way led past all processes, or past the newest ones until somebody's growth was found; a count."""


@dataclass(frozen=True, slots=True)
class Warrant:
    """Proof that this process may be touched. Only the gate (oomd.kill.warrant) makes one; every effect takes one."""

    id: ProcessId
    pidfd: int
    comm: str
    scope: str
    """The scope that holds it, in words."""
    hindrances: tuple[str, ...] = ()
    """What keeps it from freeing its memory by itself."""
    expected_bytes: int = 0
    """Private memory and swap as last seen: the order in which several are reaped."""


@dataclass(frozen=True, slots=True)
class Credit:
    """A kill under way, and the bytes that it is expected to give back: they count as available until they came or the
    deadline passed.
    """

    decision_id: str
    process: Process
    ruleset: str
    phase: str
    """``term`` (asked to go), ``kill`` (killed), ``dead`` (gone; its memory may still lie on per-CPU lists)."""
    expected_bytes: int
    """Memory that its end gives back."""
    expected_swap_bytes: int
    """Swap that its end gives back."""
    signal_us: int
    """When the first signal was sent."""
    deadline_us: int
    """``term``: end of the grace. ``kill`` and ``dead``: when the bytes no longer count."""
    available_at_signal_bytes: int
    kill_us: int | None = None
    """When SIGKILL was sent."""
    death_us: int | None = None
    reaped_us: int | None = None
    """When process_mrelease had stripped it; its death may come much later where it gets no CPU."""
    memory_us: int | None = None
    """When nine tenths of the expected bytes were seen to be back."""
    lowest_bytes: int = 0
    """Lowest available memory (per-CPU lists included) since the signal: the base of what came back."""
    lowest_swap_bytes: int = 0
    returned_bytes: int = 0
    returned_swap_bytes: int = 0
    part_of: str = ""
    """What it dies with, where it is one of several."""
    progress_bytes: int = 0
    """What had come back when the deadline was last put off."""


@dataclass(frozen=True, slots=True)
class ReapResult:
    """What the reaper thread says of one victim: the last signal and the memory back are one motion."""

    id: ProcessId
    signal: int
    """What was sent; 0: nothing, somebody else had killed it."""
    signal_errno: int
    """0, or the errno of pidfd_send_signal."""
    signal_us: int
    """When the signal call returned (CLOCK_MONOTONIC)."""
    backend: str
    reap_errno: int
    """0, or the errno of the last process_mrelease; ESRCH is no failure: the victim was quicker."""
    reap_us: int
    """How long the reap took."""
    reaped_bytes: int = 0
    """What the reap took: counted where several were killed at once, else what a reap that succeeded was to give."""
    realtime: bool = False
    """Whether the motion ran under a real-time class, or with the victim demoted instead."""


DONE, IMPOSSIBLE, PROVED, PUT_BACK = "done", "impossible", "proved", "put_back"


@dataclass(frozen=True, slots=True)
class StepResult:
    """What whoever carries a gentle step out says of it."""

    decision_id: str
    status: str
    """``done``; ``impossible``: nothing was changed; ``proved``: everybody is under warrant, and nothing was done yet;
    ``put_back``: what was changed is as it was before.
    """
    why: str = ""
    taken_bytes: int = 0
    """What was reclaimed or swapped out."""
    took_us: int = 0


@dataclass(frozen=True, slots=True)
class KillOutcome:
    """What came of a decision."""

    decision_id: str
    process: Process
    status: str
    """``killed``, ``exited`` (went by itself or at SIGTERM), ``already_gone``, ``not_permitted``, ``refused``,
    ``timed_out`` or ``dry_run``.
    """
    detail: str = ""
    signal_to_death_us: int | None = None
    signal_to_memory_us: int | None = None
    expected_bytes: int = 0
    returned_bytes: int = 0
    reap_backend: str = ""
    reap_errno: int | None = None
    reap_us: int | None = None
    hindrances: tuple[str, ...] = ()
    lifted: tuple[str, ...] = ()
    """What of them, and what else was found in its way, was lifted."""
    ruleset: str = ""
    """Which asked for it; empty where somebody else had killed the process."""
    signal: str = ""
    """The last that it got: ``SIGTERM`` or ``SIGKILL``; empty where nobody was signalled by us."""
    signalled_us: int | None = None
    """When it was sent (CLOCK_MONOTONIC), as the reaper tells; None where it told nothing."""
