"""Who is protected, avoided, preferred, and by what: the configuration's matches, the marks of cgroups, Kubernetes."""

from __future__ import annotations

from oomd.engine.marks import AVOID, NORMAL, OMIT, PREFER, honoured_mark
from oomd.engine.names import matches, matches_pattern
from oomd.engine.patterns import glob_matches, regex_found
from oomd.model.matching import CGROUP, CMDLINE, CONTAINER, EXE, NAME, POD, UNIT, USER, Match, Term
from oomd.model.placement import BEST_EFFORT, BURSTABLE, GUARANTEED, Placement, placement_of
from oomd.model.ruleset import Names, Preferences
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.snapshot import Process, ProcessId, Snapshot

PROTECT = "protect"

NODE_CRITICAL_ADJ = -997
"""kubelet gives it to system-node-critical pods and to guaranteed ones, and less to what runs the node."""
_MOST_LISTS = 64
_MOST_KNOWN = 16384

STANDING_FIRST = 0
STANDING_OVER_REQUEST = 1
STANDING_BURSTABLE = 2
STANDING_LAST = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the preferences say of one process, and which of them."""

    kind: str = NORMAL
    because: str = ""
    """The match, mark or class that decided, in words."""


NOTHING_SAID = Verdict()
UNREAD = Verdict(AVOID, "what protects it could not be read yet")


def judge(process: Process, preferences: Preferences, own_uid: int = 0, monitored_uid: int = 0) -> Verdict:
    """The first that says something: protected, omitted, avoided, preferred.

    Matches of the configuration stand above the marks of cgroups, except that an honoured ``omit`` stands above
    ``avoid`` and ``prefer``. ``monitored_uid``: the owner of the cgroup among whose children the choice is made.
    """
    named = _named(process, preferences.protect, own_uid)
    if named:
        return Verdict(PROTECT, named)
    placed = placement_of(process.cgroup)
    if placed.qos in (BURSTABLE, BEST_EFFORT) and process.oom_score_adj <= NODE_CRITICAL_ADJ:
        return Verdict(PROTECT, f"node-critical: oom_score_adj {process.oom_score_adj} in a {placed.qos} pod")
    kind, mark = honoured_mark(process.marks, process.cgroup_uid, monitored_uid)
    marked = Verdict(kind, mark)
    if kind == OMIT:
        return marked
    for kind, names in ((AVOID, preferences.avoid), (PREFER, preferences.prefer)):
        named = _named(process, names, own_uid)
        if named:
            return Verdict(kind, named)
    if _is_unread(process, preferences.protect, placed):
        return UNREAD
    return marked


class _Memory:
    """Verdicts on processes by one set of preferences."""

    def __init__(self) -> None:
        self.preferences: Preferences | None = None
        self.known: dict[ProcessId, tuple[tuple[object, ...], Verdict]] = {}


_memory = _Memory()


def judge_again(process: Process, preferences: Preferences, own_uid: int = 0, monitored_uid: int = 0) -> Verdict:
    """What :func:`judge` says, remembered for each process as long as nothing that it looks at has changed: of
    thousands of processes a decision judges only those that are new.
    """
    if _memory.preferences is not preferences or len(_memory.known) >= _MOST_KNOWN:
        _memory.preferences, _memory.known = preferences, {}
    looked_at = (
        process.comm,
        process.cgroup,
        process.cmdline,
        process.exe,
        process.uid,
        process.oom_score_adj,
        process.marks,
        process.cgroup_uid,
        own_uid,
        monitored_uid,
    )
    known = _memory.known.get(process.id)
    if known is not None and known[0] == looked_at:
        return known[1]
    verdict = judge(process, preferences, own_uid, monitored_uid)
    _memory.known[process.id] = looked_at, verdict
    return verdict


def pod_usage(snapshot: Snapshot) -> dict[str, int]:
    """What the containers of pods use, by cgroup; empty where there are none."""
    used: dict[str, int] = {}
    for process in snapshot.processes:
        if placement_of(process.cgroup).qos:
            used[process.cgroup] = used.get(process.cgroup, 0) + process.size_bytes
    return used


def standing(process: Process, pods: dict[str, int], mem_total_bytes: int) -> int:
    """Kubernetes' order among those of the same preference, whatever their size: best-effort pods first, then burstable
    ones that use more than they asked for, then the other burstable ones; guaranteed pods, and the services of the node
    beside pods, when nobody else is left. Nothing of it where there are no pods.
    """
    placed = placement_of(process.cgroup)
    if placed.qos == GUARANTEED:
        return STANDING_LAST
    if placed.qos == BURSTABLE:
        over = pods.get(process.cgroup, 0) > _request_bytes(process, mem_total_bytes)
        return STANDING_OVER_REQUEST if over else STANDING_BURSTABLE
    if placed.is_system and pods:
        return STANDING_LAST
    return STANDING_FIRST


def holds(match: Match, process: Process, placed: Placement | None = None) -> bool | None:
    """Whether all its conditions hold; None where that hangs on what was not read yet."""
    placed = placement_of(process.cgroup) if placed is None else placed
    unknown = False
    for term in match.terms:
        answer = _term_holds(term, process, placed, user_units=match.names_user)
        if answer is False:
            return False
        unknown = unknown or answer is None
    return None if unknown else True


def wanted_of(preferences: Preferences) -> frozenset[str]:
    """What must be read of processes for these preferences: ``cmdline``, ``exe``, both or nothing."""
    lists = (preferences.protect, preferences.avoid, preferences.prefer)
    keys = {term.key for names in lists for match in names.matches for term in match.terms}
    return frozenset(keys & {CMDLINE, EXE})


def prepare(preferences: Preferences) -> None:
    """Compile every pattern now: nothing of that is done on the way to a kill."""
    for names in (preferences.protect, preferences.avoid, preferences.prefer):
        matches(Names(names.own), "")
        matches(Names(names.embedded), "")
        for match in names.matches:
            for term in match.terms:
                _fits(term, "")


def _named(process: Process, names: Names, own_uid: int) -> str:
    """Which entry of the list names the process, in words; empty where none does.

    A name is what a process calls itself. The embedded ones were not written by the operator for this machine, so they
    count only for processes of root, of our own user, and for services of the system's manager: no unprivileged process
    exempts itself by calling itself sshd, and root in a container is not root.
    """
    own = _own(names)
    if own and matches(Names(own), process.comm):
        return f"name {_which(own, process.comm)}"
    if names.embedded and matches(Names(names.embedded), process.comm) and is_trusted(process, own_uid):
        return f"name {_which(names.embedded, process.comm)}"
    if not names.matches:
        return ""
    placed = placement_of(process.cgroup)
    return next((match.words() for match in names.matches if holds(match, process, placed)), "")


_owns: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[str, ...]] = {}


def _own(names: Names) -> tuple[str, ...]:
    """The operator's own patterns, worked out once per list."""
    key = (names.patterns, names.embedded)
    if key not in _owns:
        if len(_owns) >= _MOST_LISTS:
            _owns.clear()
        _owns[key] = names.own
    return _owns[key]


def _which(patterns: tuple[str, ...], comm: str) -> str:
    return next(pattern for pattern in patterns if matches_pattern(pattern, comm))


def is_trusted(process: Process, own_uid: int) -> bool:
    """Whether the embedded names count for it: root's, our own user's or a system service's, and not in a container."""
    placed = placement_of(process.cgroup)
    if placed.container or placed.pod:
        return False
    return process.uid in (0, own_uid) or placed.is_system


def _is_unread(process: Process, names: Names, placed: Placement) -> bool:
    return any(holds(match, process, placed) is None for match in names.matches)


def _term_holds(term: Term, process: Process, placed: Placement, *, user_units: bool) -> bool | None:
    if term.key == USER:
        return process.uid in term.uids
    if term.key == CGROUP:
        return _cgroup_fits(term, process.cgroup)
    if term.key == UNIT:
        units = placed.units + (placed.user_units if user_units else ())
        return any(_fits(term, unit) for unit in units)
    if term.key in (CMDLINE, EXE):
        text = process.cmdline if term.key == CMDLINE else process.exe
        return None if text is None else bool(text) and _fits(term, text)
    text = {NAME: process.comm, CONTAINER: placed.container, POD: placed.pod}[term.key]
    if term.key != NAME and placed.user_units and not user_units:
        return False  # what a user's own manager calls a container
    return bool(text) and _fits(term, text)


def _fits(term: Term, text: str) -> bool:
    if term.regex:
        return regex_found(term.pattern, text)
    if term.key == NAME:
        return matches_pattern(term.pattern, text)
    pattern = term.pattern
    if term.key == UNIT and "." not in pattern:
        return glob_matches(f"{pattern}.service", text)
    return glob_matches(pattern, text)


def _cgroup_fits(term: Term, path: str) -> bool:
    """A cgroup stands for all that is below it."""
    if term.regex:
        return bool(path) and regex_found(term.pattern, path)
    names = [name for name in path.split("/") if name]
    parts = [part for part in term.pattern.split("/") if part]
    return bool(path) and _path_fits(parts, names)


def _path_fits(parts: list[str], names: list[str]) -> bool:
    """Whether the path or an ancestor of it fits: ``*`` within one name, ``**`` for any number of names."""
    if not parts:
        return True
    if parts[0] == "**":
        return any(_path_fits(parts[1:], names[skipped:]) for skipped in range(len(names) + 1))
    return bool(names) and glob_matches(parts[0], names[0]) and _path_fits(parts[1:], names[1:])


def _request_bytes(process: Process, mem_total_bytes: int) -> int:
    """The most that its container can have asked for. kubelet puts the request of a burstable one into oom_score_adj,
    in thousandths of the node's memory: 1000 - 1000 * request / capacity, rounded down.
    """
    return (1000 - process.oom_score_adj + 1) * mem_total_bytes // 1000
