"""oomd in the place of Android's lmkd: between the loop and :mod:`oomd.lmkd`. Clients register processes; when the mind
of lmkd asks for a victim, one of them dies by the same executor, with the same credit, as any other victim of oomd.
"""

from __future__ import annotations

import errno
import os
import resource

from oomd.engine.credit import is_stripped
from oomd.engine.pause import pause_of
from oomd.kill.importance import DryImportance, Importance
from oomd.lmkd import wire
from oomd.lmkd.choice import in_order
from oomd.lmkd.decision import CRITICAL
from oomd.lmkd.log import KILLINFO, zero_killinfo
from oomd.lmkd.mind import Mind
from oomd.lmkd.names import Names
from oomd.lmkd.processes import read_rss_pages, read_seen
from oomd.lmkd.registry import ERROR, MOST_RECORDS, WARNING, Registry
from oomd.lmkd.server import INFO, KEY, Server, Throttle
from oomd.lmkd.service import Service
from oomd.lmkd.triggers import Triggers
from oomd.lmkd.watchdog import BEAT_US
from oomd.model.decision import KILL, NO_ACTION, TERM, Candidate, Decision
from oomd.model.lmkd_properties import without_effect
from oomd.model.units import MILLISECOND_US, SECOND_US
from oomd.model.values import dataclass, replace
from oomd.parts import clock_us
from oomd.standin import StandIn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.act import Steps
    from oomd.companion import Answer
    from oomd.kernel.scope import ScopeGuard
    from oomd.kill.warrant import Gate
    from oomd.lmkd.decision import Decision as Wish
    from oomd.lmkd.processes import Seen
    from oomd.lmkd.registry import Record, Registered
    from oomd.loop import Loop
    from oomd.model.config import LmkdOptions
    from oomd.model.decision import ReapResult

TAG = "lowmemorykiller"
RULESET = "lmkd"
"""How reports call what is decided here."""
SHORT_POLL_US = 10 * MILLISECOND_US
LONG_POLL_US = 100 * MILLISECOND_US
BLIND_POLL_US = 1 * SECOND_US
"""Where no trigger wakes us."""
MOST_TRIES = 8
"""Candidates that are tried in one evaluation when warrants are refused."""
READ_US = 2 * SECOND_US
"""How long the outside process may take to read the properties."""


@dataclass(frozen=True, slots=True)
class Site:
    """What the daemon has built already."""

    loop: Loop
    gate: Gate | None
    """None in a dry run."""
    guard: ScopeGuard
    proc_fd: int
    tell: Callable[..., object]
    ask: Callable[..., None]
    """Companion.ask: have something done by the outside process."""
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
        self._level = wire.LEVELS[options.protocol]
        self._say = Throttle(self._tell_line, clock_us).say
        admits = DryImportance(site.guard) if site.gate is None else Importance(site.gate, site.proc_fd)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = min(MOST_RECORDS, max(64, soft // 2))  # the other half is for kills
        self._names = Names(site.proc_fd, clock_us)
        self.registry = Registry(admits, site.proc_fd, self._say, self._names, compatible=options.compatible, most=most)
        waiter = site.loop.parts.waiter
        service = Service(self.registry, self._level, self, self._say, clock_us)
        self._server = Server(listener_fd, waiter, service, self._say, replaces=options.compatible)
        self._mind = Mind(site.proc_dir)
        self._triggers = Triggers(waiter, KEY, self._say, any_window=site.any_window)
        self._event: int | None = None
        """The highest level since the last evaluation."""
        self._seen_level = 0
        """Of the last event since the last poll: lower ones tell nothing new."""
        self._monitoring = False
        self._pending_us: int | None = None
        """Since when a victim of ours has not given its memory back; None where there is none."""
        self._next_us = 0
        self._until_us = 0
        """How long it is looked at often."""
        self._standin = StandIn(self.registry, waiter, KEY, self._say, site.proc_dir)
        executor = site.loop.parts.executor
        self._on_result, executor.on_result = executor.on_result, self._note_reaped

    @property
    def watchdog_pid(self) -> int:
        """0 where there is none."""
        return self._standin.pid

    def start(self, properties: str) -> None:
        """Listen, and look at memory unless that waits for the framework. ``properties``: the text of their file."""
        self._names.start()
        self._server.start()
        if self._site.gate is not None and self._site.watchdog:  # in a dry run nobody may be killed, whoever hangs
            self._standin.start(clock_us())
        self._take_properties(properties)
        self._say(INFO, f"protocol {self._level.name}, kills only what is registered")
        if not self._mind.properties.delay_monitors_until_boot:
            self.start_monitoring()

    def start_monitoring(self) -> None:
        """Pressure triggers from now on; again does nothing."""
        if not self._monitoring:
            self._monitoring = True
            self._open_triggers()

    def update_properties(self, done: Callable[[bool], None]) -> None:
        """Have the file read by the outside process, which may wait for a disk, and take what is in it. ``done``: False
        when it is of no use, and the old ones stay.
        """

        def take(answer: Answer) -> None:
            if not answer.ok:
                self._say(ERROR, f"properties: {answer.text}")
            done(answer.ok and self._take_properties(str(answer.content.get("properties", ""))))

        if not self._options.properties:
            done(self._take_properties(""))
            return
        now = clock_us()
        self._site.ask("lmkd_properties", take, now_us=now, deadline_us=now + READ_US)

    def on_event(self, key: tuple[str, int], *, lost: bool) -> None:
        """A descriptor of ours is ready."""
        fd = key[1]
        level = self._triggers.level_of(fd)
        if self._standin.owns(fd):
            for record, pid, adj in self._standin.hear(clock_us()):
                self._note_killed_for_us(record, pid, adj)
        elif level is None:
            self._server.on_event(fd, lost=lost)
        elif lost:
            self._triggers.drop(fd)
            self._say(ERROR, "a pressure trigger was lost; polling instead")
        else:
            self._event = max(level, self._event or 0)
            self._debug(f"{'critical' if level == CRITICAL else 'medium'} memory pressure event")

    def on_tick(self, now_us: int) -> Steps[None]:
        """Look at memory, if it is time to, and kill if the mind says so."""
        paused = pause_of(self._loop.state, now_us) is not None
        calm = now_us >= self._until_us and not self._loop.pace.warm
        self._standin.beat(now_us, calm=calm, holds_back=paused)
        if self.watchdog_pid:
            self._wait_at_most(BEAT_US)
        if not self._monitoring:
            return
        completed = self._wait_for_victims(now_us)
        if self._pending_us is not None or paused:
            if self._event is not None:
                self._mind.note_skipped()
                self._event = None  # of before the memory came back: no reason to kill afterwards
            return  # its end wakes us
        if self._event is not None or completed or now_us >= self._next_us:
            yield from self._evaluate(now_us, completed=completed)
        self._wait_at_most(max(0, self._next_us - now_us))  # the loop's next round is not later than ours

    def counters(self) -> dict[str, int]:
        """For the last report."""
        return {"lmkd_kills": self.registry.kills, "lmkd_registered": len(self.registry)}

    def close(self) -> None:
        """Stop listening, and forget everybody."""
        self._triggers.close()
        self._server.close()
        self._standin.close()
        self.registry.close()
        self._names.stop()
        if self._path:
            try:
                os.unlink(self._path)
            except OSError:
                return  # somebody else has removed it

    def _take_properties(self, text: str) -> bool:
        problems = self._mind.replace_properties(text, self._options.override)
        for problem in problems:
            self._say(ERROR, f"properties: {problem}")
        if problems:
            return False
        for name in without_effect(self._mind.properties):
            self._say(WARNING, f"properties: {name} has no effect here")
        if self._monitoring:
            self._triggers.close()
            self._open_triggers()
        return True

    def _open_triggers(self) -> None:
        self._triggers.open(self._mind.triggers(), self._mind.properties.psi_window_size_ms)

    def _wait_for_victims(self, now_us: int) -> bool:
        """Whether the last victim has given its memory back just now, or will not do so any more."""
        killed = [credit for credit in self._loop.state.credits if credit.phase != TERM and not is_stripped(credit)]
        since_us = self._pending_us
        if any(now_us < credit.deadline_us for credit in killed):
            self._pending_us = now_us if since_us is None else since_us
            return False
        self._pending_us = None
        if since_us is None:
            return False
        took_ms = (now_us - since_us) // MILLISECOND_US
        self._debug(
            f"Stop waiting for process kill after {took_ms}ms" if killed else f"Process got killed in {took_ms}ms"
        )
        return not self._loop.parts.executor.dry_run  # where nothing came back, nothing is to be seen of it

    def _evaluate(self, now_us: int, *, completed: bool) -> Steps[None]:
        event, self._event = self._event, None
        if event is not None and event < self._seen_level and not completed and now_us < self._next_us:
            return
        self._seen_level = event or 0
        recent = bool(self._loop.state.credits)
        wish = self._mind.evaluate(now_us, event, after_kill=completed, count_lists=completed or recent)
        killed = wish is not None and (yield from self._kill(wish, now_us))
        if event is not None or killed or self._mind.in_direct_reclaim:
            self._until_us = now_us + self._mind.properties.psi_window_size_ms * MILLISECOND_US
        if now_us < self._until_us:
            self._next_us = now_us + (SHORT_POLL_US if killed or self._mind.swap_is_low else LONG_POLL_US)
        else:
            self._next_us = (1 << 62) if self._triggers else now_us + BLIND_POLL_US

    def _wait_at_most(self, wait_us: int) -> None:
        if wait_us < self._loop.pace.interval_us:
            self._loop.pace = replace(self._loop.pace, interval_us=wait_us)

    def _kill(self, wish: Wish, now_us: int) -> Steps[bool]:
        """Whether somebody was killed."""
        candidates = in_order(
            self.registry.candidates(),
            wish.min_adj,
            heaviest=self._mind.properties.kill_heaviest_task,
            read_rss_pages=lambda each: read_rss_pages(self._site.proc_fd, each.id.pid),
        )
        tries = 0
        for chosen in candidates:
            name = self._names.of(chosen.id.pid, chosen.id.start_ticks)
            seen = read_seen(self._site.proc_fd, chosen.id, chosen.adj, name)
            if seen is None:
                self.registry.forget(chosen.id.pid)  # a zombie, or on its way out: the next one
                continue
            if (yield from self._strike(wish, chosen, seen, now_us)):
                return True
            tries += 1
            if tries >= MOST_TRIES:
                break
        return False

    def _strike(self, wish: Wish, chosen: Registered, seen: Seen, now_us: int) -> Steps[bool]:
        status = self._loop.parts.sampler.read_status(now_us, per_cpu_lists=True)
        process = seen.process
        because = f"oom_score_adj {chosen.adj}, of at least {wish.min_adj}"
        victim = Candidate(process, process.size_bytes, "size", "normal", score=chosen.adj, because=because)
        decision = Decision(KILL, wish.text, status, ruleset=RULESET, target=victim, ranking=(victim,))
        if not (yield from self._loop.act.attempt(decision)):
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

    def _note_killed_for_us(self, record: Record | None, pid: int, adj: int) -> None:
        """We hung, and the watchdog has killed: counted and told; and while its victim still gives its memory back
        nobody else dies.
        """
        self._say(ERROR, f"the watchdog killed process {pid}, oom_score_adj {adj}, while the killer hung")
        if record is None:
            return
        seen = read_seen(self._site.proc_fd, record.id, adj, dying=True)
        rss_bytes = 0 if seen is None else seen.rss_bytes
        self._server.send(wire.KILLS, wire.encode_notice(pid, record.uid, rss_bytes, self._level))
        self._tell_line(INFO, zero_killinfo(pid, record.uid, adj), KILLINFO)
        self.registry.note_kill(record.id, adj)
        status = self._loop.status
        if seen is not None and status is not None:
            victim = Candidate(seen.process, seen.process.size_bytes, "size", "normal", score=adj)
            act = self._loop.act
            act.at_once(act.carry_out(Decision(NO_ACTION, "killed by the watchdog", status, target=victim)))

    def _debug(self, text: str) -> None:
        """What is told only where ro.lmk.debug asks for it."""
        if self._mind.properties.debug:
            self._say(INFO, text)

    def _tell_line(self, letter: str, text: str, tag: str = TAG) -> None:
        self._site.tell("lmkd", letter=letter, tag=tag, writer=os.getpid(), text=text)
