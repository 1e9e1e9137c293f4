"""The journey: wait → observe → detect → select → kill → reap → report."""

from __future__ import annotations

from oomd.act import Act
from oomd.engine.calm import RENEW_US, Calm, calm, groups_of
from oomd.engine.detection import carried_state, observe, passed, reloaded_state, wants_of
from oomd.engine.pacing import OLDEST_US, STEADY, Pace, followed, pace
from oomd.engine.preferences import prepare, wanted_of
from oomd.engine.selection import looks_at_cgroups, may_choose
from oomd.foresight import Foresight
from oomd.kernel.threads import allocate_lock
from oomd.model.decision import NO_ACTION, Times
from oomd.model.snapshot import Budget
from oomd.model.units import SECOND_US
from oomd.model.values import replace
from oomd.monitor.effort import Effort
from oomd.monitor.lag import Lags
from oomd.parts import clock_us
from oomd.search import Search

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from oomd.engine.calm import Groups
    from oomd.kill.executor import Aim
    from oomd.model.decision import Decision, Detection
    from oomd.model.ruleset import EngineState, Rules
    from oomd.model.snapshot import MemoryStatus
    from oomd.parts import Parts

ALERTED_US = 5 * SECOND_US
"""How long a pressure trigger keeps the loop attentive."""


class Loop:
    """Watches, decides, kills. One instance per daemon."""

    def __init__(self, parts: Parts, rules: Rules) -> None:
        self.parts = parts
        self.pace = Pace(0, warm=False, interval_us=0)
        self._trend = STEADY
        self.stopping = False
        self.ticks = 0
        self.status: MemoryStatus | None = None
        """As of the last tick; None before the first."""
        self.glanced: MemoryStatus | None = None
        """What the last glance before that saw; None where the tick before was a full look too."""
        self.detections: tuple[Detection, ...] = ()
        self.acted = False
        """Whether the last tick did, or began, anything."""
        self.lags = Lags()
        self._effort = Effort()
        self._is_relay = False
        """Whether another thread may take over."""
        self._over = allocate_lock()
        """Held while other threads than the caller's run the loop."""
        self._failure: BaseException | None = None
        """How the loop ended in another thread."""
        self._alerted_until_us = 0
        self._groups: Groups | None = None
        self._calm: Calm | None = None
        """As long as everything stays within it, a glance suffices."""
        self._calm_until_us = self._due_us = 0
        """When the next look is to be a full one anyway; and by when there is to be one, whatever it is."""
        self.search = Search(parts.table, parts.sharing, parts.facts, parts.cgroups, clock_us)
        self.act = Act(parts, rules, self.search)
        self._foresight = Foresight(parts, self.search)
        self._want()

    def run(self) -> None:
        """Tick until somebody sets :attr:`stopping`. Where there are reapers it is their threads that run the loop: the
        one that decides on a kill may do it, and reap, and another goes on meanwhile. The caller's only waits, so that
        signals always find it, and it returns whoever may hang in a reap.
        """
        self._over.acquire()
        self._is_relay = True
        if self.parts.executor.hand_over(self._begin):
            self._over.acquire()
        else:
            self._is_relay = False
            self._go_on()
        self._is_relay = False
        self._over.release()
        if self._failure is not None:
            raise self._failure

    def _begin(self) -> None:
        self._effort.skip()
        self._run_on(iter(()))

    def _go_on(self) -> bool:
        """Whether another thread has it now; else it has ended."""
        while not self.stopping:
            if self.tick():
                return True
        self._take(self.parts.waiter.wait_ready(0))
        self.act.conclude()  # what ends us may be the very victim
        return False

    def _walk(self, steps: Iterator[Aim]) -> bool:
        """Go through one round of the journey, and signal who is to be signalled on the way. Whether another thread has
        gone on with it, and with the loop.
        """
        for aim in steps:
            if self.parts.executor.strike(aim, self._successor(aim, steps) if self._is_relay else None):
                return True
        return False

    def _successor(self, aim: Aim, steps: Iterator[Aim]) -> Callable[[], None]:
        """What another thread does in place of the calling one, which kills."""

        def go_on() -> None:
            self._effort.skip()
            self._run_on(steps, aim)

        return go_on

    def _run_on(self, steps: Iterator[Aim], aim: Aim | None = None) -> None:
        """The loop is the calling thread's, from here on."""
        try:
            if aim is not None:
                self.parts.executor.note_struck(aim)
            if self._walk(steps) or self._go_on():
                return
        except BaseException as error:  # noqa: BLE001 - raised where the loop was begun
            self._failure = error
        self._over.release()

    @property
    def rules(self) -> Rules:
        """The rules in force."""
        return self.act.rules

    @property
    def state(self) -> EngineState:
        """What the engine remembers, credits of kills under way included."""
        return self.act.state

    @state.setter
    def state(self, state: EngineState) -> None:
        self.act.state = state

    def tick(self) -> bool:
        """One round of the journey; its beginning only, where nothing has come closer. Whether another thread has gone
        on with it, and with the loop.
        """
        woke_us, lag_us, called = self._wait()
        if not called and self._glance(woke_us):
            return False
        self._calm = None
        self.parts.executor.sent_us = None
        return self._walk(self._journey(woke_us, lag_us))

    def _journey(self, woke_us: int, lag_us: int) -> Iterator[Aim]:
        """One round, up to whoever is to be signalled, and from there."""
        foreseen = self._foresight.take_aim(self.parts.sampler, self.state)
        if foreseen is not None:
            yield foreseen.aim
        levels = self.parts.sampler.read_levels(clock_us() if foreseen is None else foreseen.read_us)
        struck = None if foreseen is None else self._foresight.struck(foreseen, levels, self.state)
        self._remember_glance()
        status = self._observe(levels, struck=struck is not None)
        self.act.times = Times(woke_us, clock_us() if foreseen is None else foreseen.read_us, 0, lag_us=lag_us)
        cgroups = () if self.parts.cgroups is None else self.parts.cgroups.look(clock_us)
        if self.parts.tape is not None:
            self.parts.tape.begin(status, self.state, cgroups)
        detections, self.state = observe(self.rules, status, self.state, cgroups)
        self.ticks, self.status, self.detections = self.ticks + 1, status, detections
        if struck is not None:
            self.act.complete(struck, status, detections)
        self.acted = (yield from self.act.advance(detections, status)) or struck is not None
        if not self.acted and self._may_act(detections, status):
            decision = self._select(detections, status)
            done = yield from self.act.carry_out(decision)
            self.acted = done is not None and decision.action != NO_ACTION
        self._prepare(detections, status)
        yield from self.parts.beside(status.time_us)
        self.parts.on_tick(status.time_us)
        if self.act.worth_writing:
            self.act.hand_out()
        self._effort.note()
        self._calm_down(status)

    def rehearse(self, status: MemoryStatus) -> None:
        """What is decided in advance, once at the beginning."""
        self._foresight.rehearse(self.rules, status, self.state)

    def replace_rules(self, rules: Rules, *, carry: bool = False) -> None:
        """A reload: kills under way go on. ``carry``: rulesets that did not change remember what they did."""
        self.act.hand_out(everything=True)
        if not carry:
            self.act.ladders.end_all(self.status, "other rules are in force")
        before = self.rules
        self.act.rules = rules
        self._foresight.drop()
        self.act.ladders.prepare(rules)
        prepare(rules.preferences)
        if self.parts.facts is not None:
            self.parts.facts.wanted = wanted_of(rules.preferences)
        self.state = carried_state(self.state, before, rules) if carry else reloaded_state(self.state, rules)
        self._want()

    def forget_calm(self) -> None:
        """The next look is a full one."""
        self._calm = None

    def _want(self) -> None:
        """Have read what the rules look at, and nothing more."""
        self.search.judge_by(self.rules)
        self.forget_calm()
        self._groups = groups_of(self.rules)
        wants = wants_of(self.rules)
        self.parts.sampler.want(wants.details)
        if self.search.want(touches=wants.touches) and self.parts.touches_lost:
            self.act.tell("degraded", text=f"clear_refs: {self.parts.touches_lost}")
        if self.parts.cgroups is not None:
            self.parts.cgroups.want(wants, choices=looks_at_cgroups(self.rules))

    def _wait(self) -> tuple[int, int, bool]:
        """Until something happens or is due. When that was, how much later than it was due, and whether it happened."""
        begin_us = clock_us()
        longest_us = self.parts.longest_us() if self._calm is None else max(0, self._due_us - begin_us)
        wait_us = min(self.pace.interval_us, self.parts.rhythm_us, longest_us)
        if self.pace.warm and self._foresight.is_armed:
            self.parts.executor.expect(wait_us)
        events = self.parts.waiter.wait_ready(wait_us)
        woke_us = clock_us()
        if events:
            self._take(events)
            return woke_us, 0, True
        lag_us = max(0, woke_us - begin_us - wait_us)
        self.lags.note(lag_us)
        return woke_us, lag_us, False

    def _glance(self, now_us: int) -> bool:
        """Whether nothing has come closer since the last full look, and nothing is due: then nothing is done."""
        bounds = self._calm
        if bounds is None or now_us >= min(self._calm_until_us, self._due_us):
            return False
        if not self.parts.sampler.glance(bounds, now_us) or (self.pace.warm and self.search.has_news(now_us)):
            return False
        self.ticks += 1
        self._effort.skip()
        self.parts.on_glance(now_us)
        return True

    def _calm_down(self, status: MemoryStatus) -> None:
        """See whether glances will do until further notice."""
        floor = self.parts.floor_bytes()
        if self._groups is None or floor is None or self.acted or self.parts.tape is not None:
            return
        if status.mem_available_bytes < floor or not self.parts.sampler.can_glance or self.search.is_busy:
            return
        bounds = calm(self._groups, status, self.state, self.pace, self._trend)
        if bounds is None:
            return
        self._calm = bounds.within(Calm(0, floor))
        self.pace = replace(self.pace, interval_us=bounds.interval_us)
        self._calm_until_us = (
            self.parts.table.looked_us + self.pace.fresh_us if self.pace.warm else status.time_us + RENEW_US
        )
        self._due_us = clock_us() + self.parts.longest_us()

    def _remember_glance(self) -> None:
        """What was last seen before this look."""
        self.glanced = self.parts.sampler.take_glanced()
        if self.glanced is not None:
            self.state = passed(self.rules, self.glanced, self.state)
            self._trend = followed(self._trend, self.glanced)

    def _take(self, events: list[tuple[Hashable, bool]]) -> None:
        now = clock_us()
        for key, lost in events:
            if isinstance(key, tuple) and key[0] == "victim":
                self.act.note_death(key[1], now)
            elif key == "reaper":
                self.act.note_reaped()
            elif key == "steps":
                self.act.note_steps(now)
            else:
                if isinstance(key, tuple) and key[0] == "pressure" and not lost:
                    self._alerted_until_us = now + ALERTED_US
                self.parts.on_event(key, lost)

    def _observe(self, levels: MemoryStatus, *, struck: bool) -> MemoryStatus:
        # Per-CPU lists are the machine's, so they say nothing of a budget; a kill's baseline must already hold them.
        lists = self.parts.limit_bytes is None and (self.pace.warm or bool(self.state.credits))
        status = self.parts.sampler.read_rest(levels, per_cpu_lists=lists)
        if struck and self.status is not None:  # what lies there now may be the victim's
            status = replace(status, pcp_bytes=min(status.pcp_bytes, self.status.pcp_bytes))
        if self.parts.limit_bytes is None:
            return status
        if self.parts.read_cgroup_usage is not None:
            usage, source = self._read_cgroup(self.parts.read_cgroup_usage), self.parts.cgroup
        else:
            self.search.look(status)
            usage, source = self.parts.table.usage_bytes(), "processes"
        return replace(status, budget=Budget(self.parts.limit_bytes, usage, source))

    def _read_cgroup(self, read: Callable[[], int]) -> int:
        """The cgroup's usage; its removal ends the daemon, which has nothing left to guard."""
        try:
            return read()
        except OSError as error:
            self.stopping = True
            self.act.tell("note", text=f"the cgroup {self.parts.cgroup} can no longer be read: {error.strerror}")
            return 0

    def _may_act(self, detections: tuple[Detection, ...], status: MemoryStatus) -> bool:
        now_us = status.time_us
        return now_us >= self.act.nobody_until_us and may_choose(detections, self.state, now_us)

    def _prepare(self, detections: tuple[Detection, ...], status: MemoryStatus) -> None:
        """Decide how soon to look again; look at processes as soon as it begins to matter."""
        alerted = status.time_us < self._alerted_until_us
        self._trend = followed(self._trend, status)
        self.pace = pace(
            detections,
            self.state,
            triggers=self.parts.triggers,
            alerted=alerted,
            trend=self._trend,
            cost_us=self._effort.least_us,
        )
        self._look(status)
        # By the upper bound: what forked processes are taken to share may long have become their own.
        limit = self.parts.limit_bytes
        if self.pace.warm or (limit is not None and 2 * self.parts.table.most_bytes() > limit):
            self.search.measure(self.rules, self.state, status, calm=self.pace.fresh_us >= OLDEST_US)
        self.search.collect(status.time_us, ask=self.pace.warm)
        if self.pace.warm:
            self._foresight.prepare(self.rules, status, self.state)
        else:
            self._foresight.drop()

    def _look(self, status: MemoryStatus) -> None:
        """Look at processes as far as that will be of use at the next tick; who are summed are looked at anyway."""
        table = self.parts.table
        if not self.pace.warm:
            return
        summed = self.parts.limit_bytes is not None and self.parts.read_cgroup_usage is None
        if not summed and table.wants_scan(status.time_us):
            table.scan(status, clock_us)
        elif table.wants_look(status.time_us, self.pace.fresh_us):
            table.look(status, clock_us, sizes_only=True)
        elif not summed and table.find_newcomers() is None:
            table.scan(status, clock_us)

    def _select(self, detections: tuple[Detection, ...], status: MemoryStatus) -> Decision:
        return self.search.select(self.rules, self.state, detections, status, known=True)
