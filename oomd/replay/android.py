"""A trace asked of lmkd's mind: every process of it counts as registered with its oom_score_adj."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oomd.kernel.files import KernelFormatError
from oomd.lmkd.choice import in_order
from oomd.lmkd.decision import CRITICAL, MEDIUM, State, after_success, decide
from oomd.lmkd.facts import FactsFiles
from oomd.lmkd.registry import Registered
from oomd.model.decision import KILL, NO_ACTION, Candidate, Decision
from oomd.model.lmkd_properties import Properties, parse_properties
from oomd.replay.pages import page_bytes_of
from oomd.replay.trace import ReplayError

if TYPE_CHECKING:
    from oomd.lmkd.decision import Decision as Wish
    from oomd.lmkd.facts import Facts
    from oomd.model.config import LmkdOptions
    from oomd.model.snapshot import Process, ProcessId
    from oomd.replay.observation import Observation
    from oomd.replay.trace import Step

RULESET = "lmkd"
LEVELS = {"": None, "medium": MEDIUM, "critical": CRITICAL}


class AndroidPlayer:
    """Carries lmkd's memory from step to step."""

    def __init__(self, options: LmkdOptions) -> None:
        """Raises ReplayError for properties that are of no use."""
        self._properties = _read_properties(options)
        self._state = State()
        self._victim: ProcessId | None = None
        """Whoever was killed, as long as the trace shows it."""

    def play(self, step: Step, seen: Observation) -> Decision:
        """Whom lmkd would kill at this step. Raises ReplayError where its files cannot be read."""
        living = {process.id: process for process in seen.snapshot.processes if not process.is_dead}
        if self._victim in living:
            reason = f"{living[self._victim].comm} still gives its memory back"
            return Decision(NO_ACTION, reason, seen.status, ruleset=RULESET)
        after_kill, self._victim = self._victim is not None, None
        facts = _read_facts(step, count_lists=after_kill)
        level = LEVELS[step.meta.event]
        wish, self._state = decide(facts, level, self._state, self._properties, after_kill=after_kill)
        if wish is None:
            return Decision(NO_ACTION, "nothing is asked for", seen.status, ruleset=RULESET)
        return self._choose(wish, living, seen)

    def _choose(self, wish: Wish, living: dict[ProcessId, Process], seen: Observation) -> Decision:
        registered = sorted(
            (
                Registered(process.id, process.oom_score_adj, process.uid, process.id.start_ticks)
                for process in living.values()
                if process.id.pid != 1 and not process.is_kernel_thread and not process.out_of_scope
            ),
            key=lambda each: (-each.adj, each.order),
        )
        ranking = []
        for chosen in in_order(
            tuple(registered),
            wish.min_adj,
            heaviest=self._properties.kill_heaviest_task,
            read_rss_pages=lambda each: _resident_bytes(living[each.id]),
        ):
            process = living[chosen.id]
            because = f"oom_score_adj {chosen.adj}, of at least {wish.min_adj}"
            ranking.append(Candidate(process, process.size_bytes, "size", "normal", score=chosen.adj, because=because))
        if not ranking:
            reason = f"{wish.text}; nobody has an oom_score_adj of at least {wish.min_adj}"
            return Decision(NO_ACTION, reason, seen.status, ruleset=RULESET)
        self._state = after_success(self._state, wish.reason, self._properties)
        self._victim = ranking[0].process.id
        return Decision(KILL, wish.text, seen.status, ruleset=RULESET, target=ranking[0], ranking=tuple(ranking))


def _resident_bytes(process: Process) -> int:
    """What statm counts in pages."""
    return process.rss_anon_bytes + process.rss_file_bytes + process.rss_shmem_bytes


def _read_facts(step: Step, *, count_lists: bool) -> Facts:
    try:
        files = FactsFiles(step.proc_dir, page_bytes_of(step.proc_dir))
        try:
            found = files.read(step.time_us, count_lists=count_lists)
        finally:
            files.close()
    except OSError as error:
        raise ReplayError(f"step {step.name}: {error.filename or step.proc_dir}: {error.strerror}") from error
    except KernelFormatError as error:
        raise ReplayError(f"step {step.name}: {error.file}: {error.field} is missing or malformed") from error
    return found


def _read_properties(options: LmkdOptions) -> Properties:
    text = ""
    if options.properties:
        try:
            with open(options.properties, encoding="utf-8", errors="backslashreplace") as file:
                text = file.read()
        except OSError as error:
            raise ReplayError(f"{options.properties}: {error.strerror}") from error
    found = parse_properties(text, options.override)
    if isinstance(found, list):
        raise ReplayError("\n".join(f"{options.properties or 'lmkd.override'}: {problem}" for problem in found))
    return found
