"""Hooks around a kill (``hooks:``): what the killer asks for before a signal, and tells of after it.

The killer waits for what runs before, no longer than the deadline that it has set itself. No hook has a veto: whatever
it returns is told, and the kill goes on, unless the alarm is over by then.
"""

from __future__ import annotations

import itertools
import queue
import select
import threading
import time
from typing import TYPE_CHECKING, Protocol

from oomd.outside.journal import fields_of
from oomd.outside.prekill import DIRECTORY, Call, sockets_in
from oomd.outside.program import Program, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oomd.model.report import Plain
    from oomd.outside.killer import Killer

BEFORE, AFTER = "before", "after"
MOST_WAITING = 64
"""Kills whose after-hook waits for its turn."""
WORKERS = 2
FLUSH_S = 0.5
"""How long hooks may go on when the killer has ended …"""
END_S = 2.0
"""… and how long it is waited until they are killed then."""
LOOK_S = 0.25
"""How soon it is noticed that they may not."""


class Run(Protocol):
    """A hook under way."""

    end_s: float
    """When it is given up (CLOCK_MONOTONIC)."""
    result: Result | None

    def start(self) -> None:
        """Begin."""

    def fds(self) -> list[int]:
        """What to wait for."""

    def step(self) -> None:
        """Something became ready."""

    def give_up(self) -> None:
        """Its time is over."""


class Hooks:
    """Runs them and tells what came of each. Any thread may use it."""

    def __init__(self, report: Callable[[Plain], object], directory: str = DIRECTORY) -> None:
        self._report = report
        self._directory = directory
        self._waiting: queue.Queue[Plain] = queue.Queue(MOST_WAITING)
        self._dropped = 0
        self._ending = threading.Event()
        self._under_way: set[int] = set()
        """One number for each :meth:`_run` that goes on."""
        self._numbers = itertools.count()

    def start(self) -> None:
        """From now on after-hooks are run, in threads of their own."""
        for number in range(WORKERS):
            threading.Thread(target=self._work, name=f"hooks-{number}", daemon=True).start()

    def before(self, request: Plain) -> Plain:
        """Run and call what this request asks for, all side by side; returns when they are done or late."""
        patience_s = request["patience_us"] / 1e6
        facts = request["facts"]
        runs: list[Run] = []
        if request.get("exec"):
            runs.append(_program(request, facts, min(patience_s, request["exec_us"] / 1e6)))
        if request.get("prekill_us"):
            cgroup = (facts["decision"]["target"] or {}).get("cgroup") or "/"
            patience_s = min(patience_s, request["prekill_us"] / 1e6)
            runs += [Call(path, cgroup, patience_s) for path in sockets_in(self._directory)]
        results = self._run(runs, facts, BEFORE)
        words = ", ".join(f"{each.hook} {each.status}" for each in results if each.status != "done")
        return {"ok": not words, "text": words, "hooks": len(results)}

    def note(self, event: Plain) -> None:
        """Listens to the killer: what is to be run after a kill is queued, or counted."""
        if event["event"] == AFTER:
            try:
                self._waiting.put_nowait(event)
            except queue.Full:
                self._dropped += 1

    def finish(self) -> None:
        """The killer has ended: what still runs is given up soon."""
        end_s = time.monotonic() + FLUSH_S
        while self._waiting.unfinished_tasks and time.monotonic() < end_s:
            time.sleep(0.01)
        self._ending.set()
        end_s = time.monotonic() + END_S
        while (self._waiting.unfinished_tasks or self._under_way) and time.monotonic() < end_s:
            time.sleep(0.01)

    def _work(self) -> None:
        while True:
            event = self._waiting.get()
            try:
                if not self._ending.is_set():
                    facts = event["facts"]
                    self._run([_program(event, facts, event["exec_us"] / 1e6)], facts, AFTER)
                    self._tell_dropped()
            finally:
                self._waiting.task_done()

    def _tell_dropped(self) -> None:
        dropped, self._dropped = self._dropped, 0
        if dropped:
            text = f"hooks: {dropped} kills were told to no after-hook: those before them take too long"
            self._report({"event": "degraded", "time": time.time(), "text": text})

    def _run(self, runs: Sequence[Run], facts: Plain, stage: str) -> list[Result]:
        number = next(self._numbers)
        self._under_way.add(number)
        try:
            for run in runs:
                run.start()
            wait_all(runs, self._ending)
        finally:
            self._under_way.discard(number)
        results = [run.result for run in runs if run.result is not None]
        for result in results:
            self._report(plain_result(result, facts, stage))
        return results


def wait_all(runs: Sequence[Run], ending: threading.Event) -> None:
    """Until each has a result, by itself or because its time is over."""
    while pending := [run for run in runs if run.result is None]:
        now_s = time.monotonic()
        late = [run for run in pending if run.end_s <= now_s or ending.is_set()]
        for run in late:
            run.give_up()
        if late:
            continue
        poll, owners = select.poll(), {fd: run for run in pending for fd in run.fds()}
        for fd in owners:
            poll.register(fd, select.POLLIN)
        left_s = min(run.end_s for run in pending) - now_s
        ready = poll.poll(min(left_s, LOOK_S) * 1000)
        for run in {id(owners[fd]): owners[fd] for fd, _ in ready}.values():
            run.step()


def plain_result(result: Result, facts: Plain, stage: str) -> Plain:
    """The event of one hook."""
    return {
        "event": "hook",
        "time": time.time(),
        "id": facts.get("id", ""),
        "stage": stage,
        "hook": result.hook,
        "status": result.status,
        "exit_status": result.exit_status,
        "signal": result.signal,
        "took_us": result.took_us,
        "text": result.text,
    }


def environment_of(facts: Plain) -> dict[str, str]:
    """One variable for each fact, under the names that the journal's fields have."""
    return {name: text for name, text in fields_of(facts).items() if name.startswith("OOMD_")}


def _program(asked: Plain, facts: Plain, patience_s: float) -> Program:
    return Program(list(asked["exec"]), facts, environment_of(facts), patience_s)


def start_hooks(killer: Killer, report: Callable[[Plain], object]) -> Hooks:
    """Do what the killer asks for. Before the link is read."""
    hooks = Hooks(report)
    hooks.start()
    killer.handle(BEFORE, hooks.before)
    killer.listen(hooks.note)
    return hooks
