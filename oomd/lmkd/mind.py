"""lmkd's mind with its memory and its eyes: facts are read, :mod:`oomd.lmkd.decision` decides."""

from __future__ import annotations

from oomd.kernel.files import PAGE_BYTES, KernelFormatError
from oomd.lmkd.decision import CRITICAL, MEDIUM, State, after_success, decide
from oomd.lmkd.facts import FactsFiles
from oomd.lmkd.log import KILLINFO, kill_line, killinfo_line
from oomd.model.lmkd_properties import Properties, parse_properties
from oomd.model.units import MILLISECOND_US

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.lmkd.decision import Decision
    from oomd.lmkd.facts import Facts
    from oomd.lmkd.processes import Seen
    from oomd.lmkd.registry import Registered


class Mind:
    """One per daemon."""

    def __init__(self, proc_dir: str) -> None:
        """Raises OSError where there is nothing to look at."""
        self.properties = Properties()
        self._files = FactsFiles(proc_dir, PAGE_BYTES)
        self._state = State()
        self._facts: Facts | None = None
        self._first_kill = True
        self._event_us = 0
        self._woken_us = 0
        self._before_us = 0
        self._wakes = 0
        self._skipped = 0

    @property
    def swap_is_low(self) -> bool:
        """At the last evaluation."""
        return self._state.swap_is_low

    @property
    def in_direct_reclaim(self) -> bool:
        """At the last evaluation."""
        return self._state.direct_since_us is not None

    def replace_properties(self, text: str, override: tuple[str, ...]) -> list[str]:
        """Properties from now on; after any mistake the old ones stay."""
        found = parse_properties(text, override)
        if isinstance(found, list):
            return found
        self.properties = found
        return []

    def triggers(self) -> tuple[tuple[str, int, int], ...]:
        """Kind of stall, milliseconds per window, level."""
        if not self.properties.use_psi:
            return ()
        return (
            ("some", self.properties.psi_partial_stall_ms, MEDIUM),
            ("full", self.properties.psi_complete_stall_ms, CRITICAL),
        )

    def note_skipped(self) -> None:
        """A wake-up while a victim still gives its memory back."""
        self._skipped += 1

    def evaluate(self, now_us: int, level: int | None, *, after_kill: bool, count_lists: bool) -> Decision | None:
        """Whether somebody is to be killed. ``count_lists``: what kills have freed may lie on per-CPU lists."""
        self._before_us, self._woken_us = self._woken_us, now_us
        if level is not None:
            self._event_us, self._wakes, self._skipped = now_us, 0, 0
        self._wakes += 1
        before = self._state
        try:
            found = self._decide(now_us, level, before, after_kill=after_kill, count_lists=count_lists)
            if found is not None and self._first_kill:
                # Watermarks may be a minute old; the first kill is worth the reading of zoneinfo.
                self._first_kill = False
                self._files.forget_marks()
                found = self._decide(now_us, level, before, after_kill=after_kill, count_lists=True)
        except (OSError, KernelFormatError):
            return None
        return found

    def _decide(
        self, now_us: int, level: int | None, before: State, *, after_kill: bool, count_lists: bool
    ) -> Decision | None:
        self._facts = self._files.read(now_us, count_lists=count_lists)
        found, self._state = decide(self._facts, level, before, self.properties, after_kill=after_kill)
        return found

    def note_kill(self, wish: Decision) -> None:
        """Somebody was killed for this."""
        self._state = after_success(self._state, wish.reason, self.properties)

    def lines(self, wish: Decision, chosen: Registered, seen: Seen) -> tuple[tuple[str, str], ...]:
        """Tag and text of what the log says of a kill."""
        pid, rss_kb, swap_kb = chosen.id.pid, seen.rss_bytes // 1024, seen.status.swap_bytes // 1024
        kill = kill_line(seen.cmdline, pid, chosen.uid, chosen.adj, rss_kb, swap_kb, wish.text)
        facts = self._facts
        try:
            facts = self._files.read(self._woken_us, count_lists=False, all_pressure=True)
        except (OSError, KernelFormatError):
            pass
        if facts is None:
            return (("lowmemorykiller", kill),)
        since_event = (self._woken_us - self._event_us) // MILLISECOND_US
        since_wake = (self._woken_us - self._before_us) // MILLISECOND_US
        info = killinfo_line(
            (pid, chosen.uid, chosen.adj, wish.min_adj, rss_kb, wish.reason),
            facts,
            (since_event, since_wake, self._wakes, self._skipped),
            (swap_kb, 0, wish.thrashing, wish.max_thrashing),
        )
        return (("lowmemorykiller", kill), (KILLINFO, info))
