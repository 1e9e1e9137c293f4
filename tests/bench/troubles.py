"""What may go wrong beside a kill, each as a daemon's configuration and what happens at that moment. Data, and how each
trouble begins and ends; ``troubled_kills.py`` measures.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.surroundings import deaf_hook
from tests.integration.test_run import outside_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.bench.surroundings import Journald
    from tests.integration.harness import Guarded
    from tests.outside.bus import OwnBus

AT_ONCE = "level: {term: 48MiB, kill: 48MiB}\nstall: off\n"
"""SIGKILL as soon as the limit is reached."""
BY_TERM = "level: {term: 48MiB, kill: 8MiB, grace: 30s}\nstall: off\n"
WAIT_MS = 200
"""What hooks may hold a signal up for, where they may."""
HANGS = "/run/hangs"
"""A program that ends by nobody's will."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a kill is about to happen."""

    folder: Path
    run: Guarded
    metrics: str
    """The address at which they are served."""
    bus: OwnBus | None
    journald: Journald | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """One row of the table."""

    name: str
    beside: Callable[[Stage], AbstractContextManager[None]] = lambda stage: nullcontext()
    """What goes on around the kill; it has begun when this is entered."""
    config: str = AT_ONCE
    more_mib: int = 64
    """What the victim takes beyond its 185 MiB."""
    bus: bool = False
    journal: bool = False
    sudden: bool = False
    """Whether it begins at the very moment at which the victim takes too much."""
    scraped: bool = False
    """Whether metrics are scraped meanwhile, and how long that takes is told."""
    untold: bool = False
    """Whether oomd's own times are lost with whoever would have told them."""
    proof: Callable[[Guarded], object] = lambda run: None
    """Waits for what the daemon says of this trouble: a measurement without it would be none."""
    waits_ms: int = 0
    """How much later the signal may be sent: a hook's deadline."""


def _program(*words: str) -> Callable[[Stage], AbstractContextManager[None]]:
    """A client that means no good, until it is killed; it says a line when it has begun."""

    @contextmanager
    def beside(stage: Stage) -> Iterator[None]:
        places = {"METRICS": stage.metrics, "CONTROL": f"{stage.folder}/run/control.sock"}
        argv = [places.get(word, word) for word in words]
        script = str(Path(__file__).with_name(argv[0]))
        with subprocess.Popen(
            [sys.executable, script, *argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as rude:
            assert rude.stdout is not None
            assert rude.stdout.readline() in (b"ready\n", b"attacking\n")
            try:
                yield
                assert rude.poll() is None, f"{words} did not last"
            finally:
                rude.kill()

    return beside


def _outside(number: signal.Signals) -> Callable[[Stage], AbstractContextManager[None]]:
    @contextmanager
    def beside(stage: Stage) -> Iterator[None]:
        outside = outside_of(stage.run)
        outside.send_signal(number)
        try:
            yield
        finally:
            if number == signal.SIGSTOP:
                outside.send_signal(signal.SIGCONT)

    return beside


@contextmanager
def _bus_hangs(stage: Stage) -> Iterator[None]:
    assert stage.bus is not None
    stage.bus.freeze(signal.SIGSTOP)
    try:
        yield
    finally:
        stage.bus.freeze(signal.SIGCONT)


@contextmanager
def _bus_is_gone(stage: Stage) -> Iterator[None]:
    assert stage.bus is not None
    stage.bus.stop()
    yield


def _desktop_not_told(run: Guarded) -> None:
    run.wait_event("degraded", lambda event: "tell.desktop: uid 0 was not told" in event["text"])


def _hook_was_late(run: Guarded) -> None:
    run.wait_event("hook", lambda event: event["status"] == "late")


@contextmanager
def _journald_is_stopped(stage: Stage) -> Iterator[None]:
    assert stage.journald is not None
    with stage.journald.stopped():
        yield


def lay_hook() -> None:
    """The program that hangs, where root alone can write."""
    Path(HANGS).write_text("#!/bin/sh\ntrap '' TERM\nsleep 1000 & sleep 1000\n", encoding="utf-8")
    os.chmod(HANGS, 0o700)


def _hook(deadline: str) -> str:
    return f"hooks: {{before: {{exec: [{HANGS}], deadline: {deadline}}}}}\n"


QUIET = Trouble("nothing")
ASKED = Trouble("nothing; SIGTERM in the place of SIGKILL", config=BY_TERM, more_mib=30)
BUSY = Trouble("a process that computes, and no client", _program("rude.py", "busy", "CONTROL"))
TROUBLES = (
    QUIET,
    BUSY,
    Trouble("metrics: a scrape", scraped=True),
    Trouble("metrics: slow loris, 200 connections", _program("attacker.py", "loris", "METRICS"), scraped=True),
    Trouble("metrics: flood by four clients", _program("attacker.py", "flood", "METRICS"), scraped=True),
    Trouble("control: slow loris, 24 connections", _program("rude.py", "drip", "CONTROL")),
    Trouble("control: flood over 20 connections", _program("rude.py", "flood", "CONTROL")),
    Trouble("control: clients that come and go", _program("rude.py", "knock", "CONTROL")),
    Trouble("control: 20 clients that never read", _program("rude.py", "deaf", "CONTROL")),
    Trouble("journald stopped", _journald_is_stopped, journal=True, sudden=True),
    Trouble("the message bus stopped", _bus_hangs, bus=True, sudden=True),
    Trouble("the message bus gone", _bus_is_gone, bus=True, sudden=True, proof=_desktop_not_told),
    Trouble("the outside process stopped", _outside(signal.SIGSTOP), sudden=True),
    Trouble("the outside process killed", _outside(signal.SIGKILL), sudden=True, untold=True),
    Trouble("a hook that hangs (deadline 60 s), critical level", config=AT_ONCE + _hook("60s")),
    ASKED,
    Trouble(
        f"a hook that hangs (deadline {WAIT_MS} ms); SIGTERM",
        config=BY_TERM + _hook(f"{WAIT_MS}ms"),
        more_mib=30,
        waits_ms=WAIT_MS,
        proof=_hook_was_late,
    ),
    Trouble(
        f"a prekill socket that never answers ({WAIT_MS} ms); SIGTERM",
        lambda _: deaf_hook(),
        config=f"{BY_TERM}hooks: {{prekill: {WAIT_MS}ms}}\n",
        more_mib=30,
        waits_ms=WAIT_MS,
        proof=_hook_was_late,
    ),
)
BY_NAME = {trouble.name: trouble for trouble in TROUBLES}
