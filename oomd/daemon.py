"""The killer's composition root: builds real objects from plain values, wires them, reloads, shuts down."""

from __future__ import annotations

import gc
import os

from oomd.climbing import Climbing
from oomd.companion import KEY as LINK
from oomd.companion import Companion
from oomd.config.compiled import from_plain
from oomd.engine.preferences import wanted_of
from oomd.hastening import Hastening, build_hastener
from oomd.kernel.cgroup import cgroup2_root, open_cgroup_memory
from oomd.kernel.cgroup_namespace import enter_namespace
from oomd.kernel.features import probe_features
from oomd.kernel.files import PAGE_BYTES, open_optional
from oomd.kernel.scope import ScopeGuard
from oomd.kernel.vmstat import GROWTH_ENDS, read_fault_pages
from oomd.kill.executor import Executor
from oomd.kill.forgetting import Forgetting, why_not_everybody
from oomd.kill.tally import LEADING, Tally
from oomd.kill.warrant import Gate
from oomd.kill.whole import WholeCgroups
from oomd.ladders import Ladders
from oomd.loop import Loop
from oomd.monitor.bound import GrowthBound
from oomd.monitor.facts import FactsReader, MarkReader
from oomd.monitor.families import Families
from oomd.monitor.notify import Notifier
from oomd.monitor.process_table import ProcessTable
from oomd.monitor.sampler import Sampler
from oomd.monitor.selfcheck import (
    narrowed_by_environment,
    other_killers,
    own_and_ancestors,
    own_capabilities,
    raise_shield,
    start_report,
)
from oomd.monitor.sharing import SharingMeter
from oomd.monitor.waiter import SignalPipe, Waiter, watch_pressure
from oomd.monitor.watch import CgroupWatch
from oomd.options import Options
from oomd.orders import Orders
from oomd.parts import UNLIMITED_US, Parts, clock_us
from oomd.reap.backends import choose_reaper
from oomd.reap.pool import ReaperPool
from oomd.rehearsal import get_ready
from oomd.trimming import Trimming
from oomd.ward import PASSED_ON, pass_on, wait_children

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Hashable, Iterator

    from oomd.android import Android
    from oomd.kill.executor import Aim
    from oomd.model.config import Config
else:
    import _signal as signal  # the C module alone: `signal` brings enum

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Daemon:
    """The killer: loop, link to the outside, signals."""

    def __init__(self, options: Options) -> None:
        self.options = options
        enter_namespace(options.cgroup_namespace)
        self.config: Config = from_plain(options.config, options.modules)
        self.exit_status = 0
        self._scope = narrowed_by_environment(self.config.scope)
        self._outside = Companion(options.link_fd, options.outside_pid, options.outside_argv, options.link_token)
        self._tell = self._outside.tell
        self._told_decisions = 0
        # Under `exec` the service manager's socket is the command's, not ours.
        address = "" if options.child_pid else os.environ.pop("NOTIFY_SOCKET", "")
        self._notifier = Notifier(address, int(os.environ.pop("WATCHDOG_USEC", "0") or 0) if address else 0)
        self._proc_fd = os.open(options.proc_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._waiter = Waiter()
        self._signals = SignalPipe(
            (*STOPPING, signal.SIGHUP, signal.SIGCHLD, *(PASSED_ON if options.child_pid else ()))
        )
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # `exec` blocked them until somebody could listen
        self._capabilities = own_capabilities(self._proc_fd)
        self._started = {options.outside_pid}
        """Processes of ours that may end and be started again."""
        self._own_pids = own_and_ancestors(self._proc_fd) | self._started
        self._guard = ScopeGuard(self._scope, self._proc_fd)
        self._table = self._build_table()
        self._sharing = SharingMeter(self._proc_fd)
        self._table.own_uid = os.geteuid()
        marks = MarkReader(options.cgroup_root)
        self._facts = FactsReader(self._proc_fd, marks, wanted_of(self.config.rules.preferences))
        self._gate, self._reaper = self._build_gate()
        if self._gate is not None:
            self._sharing.forgets = Forgetting(self._gate, self._proc_fd).prepare
        self._shield = raise_shield(self._capabilities)
        self._tally = self._build_tally()
        self.loop = self._build_loop()
        self._orders = Orders(self.config, self.loop, self._outside, self._notifier.send, self._tell_status)
        self._orders.recorded = options.record
        self._hastening = self._build_hastening()
        self._trimming = Trimming(self.config, self._tell)
        self._android = self._orders.android = self._build_android()

    def run(self) -> int:
        """Watch until told to stop. Returns the exit status."""
        self._sharing.start()
        self._facts.start()
        if self._reaper is not None:
            self._reaper.start()
        self._watch_everything()
        self._hastening.start()
        if self._android is not None:
            self._android.start(self.options.lmkd_properties)
            self._know_ours()
        self.loop.act.ladders.prepare(self.loop.rules)
        get_ready(self.loop, lambda: self._tell_status("READY=1\n"), first=self._android is not None)
        self._tell_start()
        gc.collect()
        gc.freeze()
        gc.disable()  # no cycles are made per tick; a collection would come at the worst moment
        self._reap_children()  # the command may have ended before our handler stood
        self.loop.run()
        self._notifier.send("STOPPING=1")
        self.loop.act.ladders.close(self.loop.status)
        self.loop.act.hand_out(everything=True)
        self._tell(
            "stop",
            text="stopping",
            counters={
                "decisions": self.loop.act.decisions,
                "dropped": self._outside.dropped,
                **self._hastening.counters(),
                **({} if self._android is None else self._android.counters()),
            },
        )
        if self._android is not None:
            self._android.close()
        self._hastening.stop()
        self.loop.parts.executor.close()
        return self.exit_status

    def _tell_start(self) -> None:
        """What there is to know of us."""
        others = other_killers(self._table.rows, self._own_pids)
        backend = self._reaper.reaper.name if self._reaper is not None else "none (dry run)"
        report = start_report(self.options.proc_dir, self._shield, self._capabilities, others, backend)
        mode, lost = self.config.reap.every_exit, self.options.trace_lost
        report["every_exit"] = {"mode": mode, "lost": lost}
        if lost:
            self._tell("degraded", text=f"every_exit: {mode} has no effect, SIGKILLs cannot be traced: {lost}")
        self._tell("start", report=report, scope=str(self._scope), pid=os.getpid(), dry_run=self.config.dry_run)
        if self.options.paid:
            self._tell("note", text=f"an oomd that was killed had left changed: {'; '.join(self.options.paid)}")
        self._orders.tell_rules()

    def _build_table(self) -> ProcessTable:
        proc, slack_bytes = self.options.proc_dir, self.options.rss_slack_bytes
        vmstat = open_optional(f"{proc}/vmstat", enough=GROWTH_ENDS)
        families = Families(self._proc_fd, PAGE_BYTES)
        return ProcessTable(
            self._proc_fd,
            self._guard,
            frozenset(self._own_pids),
            bound=GrowthBound(vmstat, PAGE_BYTES, read_fault_pages, slack_bytes, families),
            loadavg=open_optional(f"{proc}/loadavg", single_record=True),
            page_bytes=PAGE_BYTES,
            account_all=self.config.budget_bytes is not None and not self.options.usage_cgroup,
        )

    def _build_gate(self) -> tuple[Gate | None, ReaperPool | None]:
        if self.config.dry_run:
            return None, None
        reap, mrelease = self.config.reap, probe_features(self.options.proc_dir).process_mrelease
        gate = Gate(self._guard, self._proc_fd, frozenset(self._own_pids))
        reaper = choose_reaper(reap.backend, kernel_has_mrelease=mrelease, beneath=reap.expedite_mrelease)
        return gate, ReaperPool(reaper, reap.workers, for_loop=True)

    def _build_tally(self) -> Tally | None:
        """Counts kills on units' cgroups, where there are units and kills."""
        root = None if self._gate is None else cgroup2_root()
        return None if root is None else Tally(root, self._guard, self._proc_fd)

    def _build_whole(self) -> WholeCgroups | None:
        """Kills cgroups as a whole."""
        gate, root = self._gate, cgroup2_root()
        return None if gate is None or root is None else WholeCgroups(root, gate, self._proc_fd)

    def _build_hastening(self) -> Hastening:
        hastener = None
        if self._reaper is not None and self.options.trace_fd >= 0:
            hastener = build_hastener(
                self.options.trace_fd,
                self.config.reap.every_exit,
                scope=self._scope,
                proc_fd=self._proc_fd,
                own_pids=frozenset(self._own_pids),
                reaper=self._reaper.reaper,
                watches=self._waiter,
            )
        return Hastening(hastener, self.loop, self._tell)

    def _build_android(self) -> Android | None:
        """lmkd's socket and mind, which nobody else has in memory."""
        if self.config.lmkd is None or self.options.lmkd_fd < 0:
            return None
        from oomd.android import Android, Site

        any_window = "CAP_SYS_RESOURCE" in self._capabilities
        site = Site(
            self.loop,
            self._gate,
            self._guard,
            self._proc_fd,
            self._tell,
            self._outside.ask,
            self.options.proc_dir,
            any_window,
        )
        return Android(self.config.lmkd, self.options.lmkd_fd, self.options.lmkd_path, site)

    def _build_loop(self) -> Loop:
        sampler, usage = Sampler(self.options.proc_dir, PAGE_BYTES), None
        if self.config.budget_bytes is not None and self.options.usage_cgroup:
            root = self.options.cgroup_root
            usage = open_cgroup_memory(self.options.usage_cgroup, root=root).read_usage_bytes
        executor = Executor(self._gate, self._reaper, self._waiter)
        executor.tally = self._tally
        executor.whole = self._build_whole()
        tape = None
        if self.options.record:
            from oomd.monitor.tape import Tape

            tape = Tape()
            executor.on_result = tape.note_reaped
        parts = Parts(
            waiter=self._waiter,
            sampler=sampler,
            table=self._table,
            sharing=self._sharing,
            facts=self._facts,
            executor=executor,
            on_event=self._on_event,
            report=self._outside.send,
            ask=self._outside.ask,
            on_tick=self._on_tick,
            beside=self._decide_beside,
            limit_bytes=self.config.budget_bytes,
            read_cgroup_usage=usage,
            cgroup=self.options.usage_cgroup,
            cgroups=CgroupWatch(self.options.cgroup_root),
            triggers=sampler.has_pressure and self._open_triggers(),
            longest_us=self._longest_us,
            rhythm_us=self._notifier.feed_us or UNLIMITED_US,
            on_glance=self._notifier.feed,
            floor_bytes=self._floor_bytes,
            ladders=self._build_ladders(),
            touches_lost=why_not_everybody(self._capabilities, dry_run=self.config.dry_run),
            tape=tape,
        )
        return Loop(parts, self.config.rules)

    def _build_ladders(self) -> Ladders:
        """Gentle steps; told only, in a dry run."""
        if self._gate is None:
            return Ladders(self._tell)
        return Climbing(
            self.options,
            self._scope,
            self._proc_fd,
            lambda: frozenset(self._own_pids),
            cgroup2_root(),
            self._outside,
            self._waiter,
        ).ladders()

    def _longest_us(self) -> int:
        """How long the next full look may be put off."""
        now_us, due_us = clock_us(), self._outside.due_us() or UNLIMITED_US
        return min(max(0, due_us - now_us), self._orders.pausing.longest_us(now_us))

    def _floor_bytes(self) -> int | None:
        """For :attr:`Parts.floor_bytes`."""
        busy = self._android is not None or self._outside.is_gone or self._orders.is_waiting
        return None if busy else self._trimming.floor_bytes(self.loop)

    def _open_triggers(self) -> bool:
        """Pressure triggers on the epoll; whether there are any."""
        # A recorded tree wakes nobody, and must not be written to; a budget is not the machine's affair.
        elsewhere = self.options.proc_dir != "/proc" or self.config.budget_bytes is not None
        if elsewhere or not self.config.has_rules:
            return False
        path = f"{self.options.proc_dir}/pressure/memory"
        opened, problems = watch_pressure(self._waiter, path, any_window="CAP_SYS_RESOURCE" in self._capabilities)
        for problem in problems:
            self._tell("degraded", text=f"no pressure trigger ({problem}); polling instead")
        return opened

    def _watch_everything(self) -> None:
        self._waiter.watch(self._signals.fd, "signals")
        self._outside.watch(self._waiter)
        if self._reaper is not None:
            self._waiter.watch(self._reaper.fd, "reaper")
        for root in self._guard.roots:
            if root != os.getpid():
                self._watch_root(root)

    def _watch_root(self, root: int) -> None:
        try:
            fd = os.pidfd_open(root)
        except OSError:  # it ended just now
            self.loop.stopping = not self.options.child_pid
            return
        self._waiter.watch(fd, ("root", fd))

    def _on_event(self, key: Hashable, lost: bool) -> None:
        if key == "signals":
            for number in self._signals.read_signals():
                self._on_signal(number)
        elif key == LINK:
            self._outside.hear(clock_us, self._waiter, self._orders.take)
        elif isinstance(key, tuple) and key[0] == "root":
            self._waiter.unwatch(key[1])
            os.close(key[1])
            # A command that we started is waited for all the same: its status is ours, and nobody is in scope any more.
            self.loop.stopping = not self.options.child_pid
        elif self._android is not None and isinstance(key, tuple) and key[0] == "lmkd":
            self._android.on_event((key[0], key[1]), lost=lost)
        elif key in self._hastening.keys:
            self._hastening.on_event(key)
        elif isinstance(key, tuple) and key[0] == "pressure" and lost:
            self._waiter.unwatch(key[1])  # it would be ready for ever
            os.close(key[1])
            self._tell("degraded", text="a pressure trigger was lost; polling instead")

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap_children()
        elif number == signal.SIGHUP and not self.options.child_pid:
            self._orders.reload.begin()
        elif self.options.child_pid:
            if not self.loop.stopping:
                pass_on(self.options.child_pid, number)
        else:
            self.loop.stopping = True

    def _reap_children(self) -> None:
        status = wait_children(self.options.child_pid)
        if status is not None:
            self.exit_status = status
            self.loop.stopping = True

    def _status(self) -> str:
        """What ``systemctl status`` shows."""
        mode = ", dry run" if self.config.dry_run else ""
        decisions, dropped, paused = self.loop.act.decisions, self._outside.dropped, self._orders.pausing.words()
        pause = f"{paused}; " if paused else ""
        return f"{pause}watching {self._scope}{mode}; decisions: {decisions}; reports dropped: {dropped}"

    def _tell_status(self, before: str = "") -> None:
        self._notifier.send(f"{before}STATUS={self._status()}")

    def _decide_beside(self, now_us: int) -> Iterator[Aim]:
        return iter(()) if self._android is None else self._android.on_tick(now_us)

    def _on_tick(self, now_us: int) -> None:
        self._notifier.feed(now_us)
        self._outside.expire(now_us)
        self._outside.listen_again(now_us, self._waiter)
        self._orders.on_tick(now_us)
        self._hastening.on_tick()
        self._trimming.on_tick(self.loop)
        if self._tally is not None and self.loop.pace.warm:
            self._tally.keep((row.cgroup for row in self._table.leaders[:LEADING]), now_us)
        if self.loop.act.decisions != self._told_decisions:
            self._told_decisions = self.loop.act.decisions
            self._tell_status()
        dropped = self._outside.dropped
        if self._outside.restart(now_us, self._waiter, calm=not self.loop.pace.warm):
            self._orders.tell_rules()
            self._tell("note", text=f"the outside process was started again; {dropped} reports were lost")
        self._know_ours()

    def _know_ours(self) -> None:
        """Processes of ours that were started again are spared like those before."""
        started = {self._outside.pid} | ({self._android.watchdog_pid} if self._android is not None else set())
        if started == self._started:
            return
        self._own_pids, self._started = (self._own_pids - self._started) | started, started
        self._table.own_pids = frozenset(self._own_pids)
        if self._gate is not None:
            self._gate.own_pids = frozenset(self._own_pids)
        self._hastening.spare(frozenset(self._own_pids))
        self.loop.act.ladders.spare(frozenset(self._own_pids))
