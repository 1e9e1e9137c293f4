"""oomd in the place of Android's lmkd: between the loop and :mod:`oomd.lmkd`. Clients register processes; when the mind
of lmkd asks for a victim, one of them dies by the same executor, with the same credit, as any other victim of oomd.
"""

from __future__ import annotations

import errno
import os
import resource
import sys

from oomd.engine.credit import is_stripped
from oomd.kernel.psi import open_trigger
from oomd.kill.importance import DryImportance, Importance
from oomd.lmkd import wire
from oomd.lmkd.choice import in_order
from oomd.lmkd.mind import Mind
from oomd.lmkd.processes import read_rss_pages, read_seen
from oomd.lmkd.properties import is_property
from oomd.lmkd.registry import ERROR, MOST_RECORDS, WARNING, Registry
from oomd.lmkd.server import INFO, KEY, Server, Throttle
from oomd.lmkd.service import Service
from oomd.lmkd.watchdog import BEAT_US, Leash, command_of
from oomd.model.decision import KILL, Candidate, Decision
from oomd.model.units import MILLISECOND_US, SECOND_US
from oomd.model.values import dataclass, replace
from oomd.monitor.waiter import PRESSURE
from oomd.outside.spawn import spawn_outside
from oomd.parts import clock_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.kernel.scope import ScopeGuard
    from oomd.kill.warrant import Gate
    from oomd.lmkd.decision import Decision as Wish
    from oomd.lmkd.processes import Seen
    from oomd.lmkd.registry import Registered
    from oomd.loop import Loop
    from oomd.model.config import LmkdOptions
    from oomd.model.decision import ReapResult

TAG = "lowmemorykiller"
RULESET = "lmkd"
"""How reports call what is decided here."""
PRESSURE_FILE = "/proc/pressure/memory"
SHORT_POLL_US = 10 * MILLISECOND_US
LONG_POLL_US = 100 * MILLISECOND_US
BLIND_POLL_US = 1 * SECOND_US
"""Where no trigger wakes us."""
UNPRIVILEGED_WINDOW_US = 2 * SECOND_US
"""Without CAP_SYS_RESOURCE the kernel takes only windows of whole multiples of this."""
MOST_TRIES = 8
"""Candidates that are tried in one evaluation when warrants are refused."""
MOST_PROPERTY_BYTES = 1 << 16
"""A file of properties larger than this is somebody else's."""


@dataclass(frozen=True, slots=True)
class Site:
    """What the daemon has built already."""

    loop: Loop
    gate: Gate | None
    """None in a dry run."""
    guard: ScopeGuard
    proc_fd: int
    tell: Callable[..., object]
    proc_dir: str
    any_window: bool
    """Whether we have CAP_SYS_RESOURCE."""
    watchdog: bool = True
    """Whether a process of its own kills when we hang."""


class Android:
    """Everything of lmkd in the killer's process."""

    def __init__(self, options: LmkdOptions, listener_fd: int, path: str, site: Site) -> None:
        self._options = options
        self._path = path
        self._site = site
        self._loop = site.loop
        self._waiter = site.loop.parts.waiter
        self._level = wire.LEVELS[options.protocol]
        self._say = Throttle(self._tell_line, clock_us).say
        admits = DryImportance(site.guard) if site.gate is None else Importance(site.gate, site.proc_fd)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = min(MOST_RECORDS, max(64, soft // 2))  # the other half is for kills
        self.registry = Registry(admits, site.proc_fd, self._say, compatible=options.compatible, most=most)
        service = Service(self.registry, self._level, self, self._say, clock_us)
        self._server = Server(listener_fd, self._waiter, service, self._say, replaces=options.compatible)
        self._mind = Mind(site.proc_dir)
        self._triggers: dict[int, int] = {}
        """Descriptors of pressure triggers, with the level that each stands for."""
        self._event: int | None = None
        """The highest level since the last evaluation."""
        self._monitoring = False
        self._pending = False
        """Whether a victim of ours has not given its memory back yet."""
        self._next_us = 0
        self._until_us = 0
        """How long it is looked at often."""
        self._leash: Leash | None = None
        self.watchdog_pid = 0
        executor = site.loop.parts.executor
        self._on_result, executor.on_result = executor.on_result, self._note_reaped

    def start(self) -> None:
        """Listen, and look at memory unless that waits for the framework."""
        self._server.start()
        self._loose_watchdog()
        self.update_properties()
        self._say(INFO, f"protocol {self._level.name}, kills only what is registered")
        if not self._mind.properties.delay_monitors_until_boot:
            self.start_monitoring()

    def start_monitoring(self) -> None:
        """Pressure triggers from now on; again does nothing."""
        if not self._monitoring:
            self._monitoring = True
            self._open_triggers()

    def update_properties(self) -> bool:
        """Read them anew; False when the file is of no use, and the old ones stay."""
        for name in (line.partition("=")[0].strip() for line in self._options.override):
            if not is_property(name):
                self._say(WARNING, f"lmkd.override: {name!r} is no property of lmkd, and has no effect")
        text = self._read_properties()
        problems = [] if text is None else self._mind.replace_properties(text)
        for problem in problems:
            self._say(ERROR, f"properties: {problem}")
        if text is None or problems:
            return False
        if self._monitoring:
            self._close_triggers()
            self._open_triggers()
        return True

    def on_event(self, key: tuple[str, int], *, lost: bool) -> None:
        """A descriptor of ours is ready."""
        fd = key[1]
        if self._leash is not None and fd == self._leash.fileno():
            self._hear_watchdog()
        elif fd not in self._triggers:
            self._server.on_event(fd, lost=lost)
        elif lost:
            self._close_trigger(fd)
            self._say(ERROR, "a pressure trigger was lost; polling instead")
        else:
            self._event = max(self._triggers[fd], self._event or 0)

    def on_tick(self, now_us: int) -> None:
        """Look at memory, if it is time to, and kill if the mind says so."""
        if self._leash is not None:
            self._leash.beat(now_us, self.registry.records)
            self._wait_at_most(BEAT_US)
        if not self._monitoring:
            return
        pending = any(not is_stripped(each) and now_us < each.deadline_us for each in self._loop.state.credits)
        completed, self._pending = self._pending and not pending, pending
        if pending:
            self._mind.note_skipped()
            return  # its end wakes us
        if self._event is not None or completed or now_us >= self._next_us:
            self._evaluate(now_us, completed=completed)
        self._hurry(now_us)

    def counters(self) -> dict[str, int]:
        """For the last report."""
        return {"lmkd_kills": self.registry.kills, "lmkd_registered": len(self.registry)}

    def close(self) -> None:
        """Stop listening, and forget everybody."""
        self._close_triggers()
        self._server.close()
        self._end_watchdog()
        self.registry.close()
        if self._path:
            try:
                os.unlink(self._path)
            except OSError:
                return  # somebody else has removed it

    def _loose_watchdog(self) -> None:
        """Start it; in a dry run nobody may be killed, whoever hangs."""
        if self._site.gate is None or not self._site.watchdog:
            return
        argv = [sys.executable, *command_of("@LINK@", self._site.proc_dir)]
        try:
            started = spawn_outside(argv, "@LINK@")
        except OSError as error:
            self._say(ERROR, f"no watchdog: {error.strerror}")
            return
        self._leash, self.watchdog_pid = Leash(started.link_fd), started.pid
        self.registry.watchdog = self._leash
        self._waiter.watch(self._leash.fileno(), (KEY, self._leash.fileno()))

    def _hear_watchdog(self) -> None:
        """We hung, and it has killed for us; or it has ended."""
        assert self._leash is not None
        for pid, adj in self._leash.take_killed():
            self._say(ERROR, f"the watchdog killed process {pid}, oom_score_adj {adj}, while the killer hung")
            process_id = self.registry.id_of(pid)
            if process_id is not None:
                self.registry.note_kill(process_id, adj)
        if self._leash.lost:
            self._say(ERROR, "the watchdog has ended")
            self._end_watchdog()

    def _end_watchdog(self) -> None:
        if self._leash is not None:
            self._waiter.unwatch(self._leash.fileno())
            self._leash.close()
            self._leash, self.registry.watchdog = None, None

    def _evaluate(self, now_us: int, *, completed: bool) -> None:
        event, self._event = self._event, None
        recent = bool(self._loop.state.credits)
        wish = self._mind.evaluate(now_us, event, after_kill=completed, count_lists=completed or recent)
        killed = wish is not None and self._kill(wish, now_us)
        if event is not None or killed or self._mind.in_direct_reclaim:
            self._until_us = now_us + self._mind.properties.psi_window_size_ms * MILLISECOND_US
        if now_us < self._until_us:
            self._next_us = now_us + (SHORT_POLL_US if killed or self._mind.swap_is_low else LONG_POLL_US)
        else:
            self._next_us = (1 << 62) if self._triggers else now_us + BLIND_POLL_US

    def _hurry(self, now_us: int) -> None:
        """The loop's next round, not later than ours."""
        self._wait_at_most(max(0, self._next_us - now_us))

    def _wait_at_most(self, wait_us: int) -> None:
        if wait_us < self._loop.pace.interval_us:
            self._loop.pace = replace(self._loop.pace, interval_us=wait_us)

    def _kill(self, wish: Wish, now_us: int) -> bool:
        """Whether somebody was killed."""
        candidates = in_order(
            self.registry.candidates(),
            wish.min_adj,
            heaviest=self._mind.properties.kill_heaviest_task,
            read_rss_pages=lambda each: read_rss_pages(self._site.proc_fd, each.id.pid),
        )
        tries = 0
        for chosen in candidates:
            seen = read_seen(self._site.proc_fd, chosen.id, chosen.adj)
            if seen is None:
                self.registry.forget(chosen.id.pid)  # a zombie, or on its way out: the next one
                continue
            if self._strike(wish, chosen, seen, now_us):
                return True
            tries += 1
            if tries >= MOST_TRIES:
                break
        return False

    def _strike(self, wish: Wish, chosen: Registered, seen: Seen, now_us: int) -> bool:
        status = self._loop.parts.sampler.read_status(now_us, per_cpu_lists=True)
        process = seen.process
        because = f"oom_score_adj {chosen.adj}, of at least {wish.min_adj}"
        victim = Candidate(process, process.size_bytes, "size", "normal", score=chosen.adj, because=because)
        decision = Decision(KILL, wish.text, status, ruleset=RULESET, target=victim, ranking=(victim,))
        if not self._loop.act.attempt(decision):
            self.registry.forget(chosen.id.pid)
            return False
        if not self._loop.parts.executor.dry_run:
            self._note_kill(wish, chosen, seen)
        return True

    def _note_kill(self, wish: Wish, chosen: Registered, seen: Seen) -> None:
        """Counted, logged, and told to whoever subscribed. The signal has been sent already."""
        self._mind.note_kill(wish)
        self.registry.note_kill(chosen.id, chosen.adj)
        self._server.send(wire.KILLS, wire.encode_notice(chosen.id.pid, chosen.uid, seen.rss_bytes, self._level))
        kill = wire.Circumstances(
            chosen.uid,
            chosen.adj,
            wish.min_adj,
            wish.free_mem_kb,
            wish.free_swap_kb,
            wish.reason,
            wish.thrashing,
            wish.max_thrashing,
        )
        if self._mind.properties.log_stats:
            name = seen.cmdline.encode("utf-8", "backslashreplace")
            self._server.send(wire.STATISTICS, wire.encode_statistics(seen.usage, kill, name))
        for tag, text in self._mind.lines(wish, chosen, seen):
            self._tell_line(INFO, text, tag)

    def _note_reaped(self, result: ReapResult) -> None:
        if self._on_result is not None:
            self._on_result(result)
        pid = result.id.pid
        if result.reap_errno == 0 and result.backend != "none":
            self._tell_line(INFO, f"Process {pid} was reaped in {result.reap_us // MILLISECOND_US}ms")
        elif result.reap_errno not in (0, errno.ESRCH, errno.ENOSYS):
            self._tell_line(ERROR, f"process_mrelease {pid} failed: {os.strerror(result.reap_errno)}")

    def _open_triggers(self) -> None:
        for kind, stall_ms, level in self._mind.triggers():
            window_us = self._mind.properties.psi_window_size_ms * MILLISECOND_US
            stall_us = stall_ms * MILLISECOND_US
            try:
                fd = _open_trigger(kind, stall_us, window_us, any_window=self._site.any_window)
            except OSError as error:
                self._say(WARNING, f"no pressure trigger ({kind}: {error.strerror}); polling instead")
                continue
            self._triggers[fd] = level
            self._waiter.watch(fd, (KEY, fd), PRESSURE)

    def _close_triggers(self) -> None:
        for fd in list(self._triggers):
            self._close_trigger(fd)

    def _close_trigger(self, fd: int) -> None:
        del self._triggers[fd]
        self._waiter.unwatch(fd)
        os.close(fd)

    def _read_properties(self) -> str | None:
        """The text of the file and of what takes the place of its lines; None where it cannot be read."""
        text = ""
        if self._options.properties:
            try:
                fd = os.open(self._options.properties, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                try:
                    text = os.read(fd, MOST_PROPERTY_BYTES).decode("utf-8", "backslashreplace")
                finally:
                    os.close(fd)
            except OSError as error:
                self._say(ERROR, f"{self._options.properties}: {error.strerror}")
                return None
        return "\n".join((text, *self._options.override))

    def _tell_line(self, letter: str, text: str, tag: str = TAG) -> None:
        self._site.tell("lmkd", letter=letter, tag=tag, writer=os.getpid(), text=text)


def _open_trigger(kind: str, stall_us: int, window_us: int, *, any_window: bool) -> int:
    """A trigger of this share of stall; its window is what the kernel lets us have. Raises OSError."""
    if not any_window and window_us % UNPRIVILEGED_WINDOW_US:
        longer = -(-window_us // UNPRIVILEGED_WINDOW_US) * UNPRIVILEGED_WINDOW_US
        stall_us, window_us = stall_us * longer // window_us, longer
    return open_trigger(PRESSURE_FILE, kind, stall_us, window_us)
