"""Runs a real oomd in a scope of its own and listens to what it reports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")
ACTORS = str(Path(__file__).with_name("actors.py"))
PATIENCE_S = 120.0


class Guarded:
    """One oomd process with its output, as events (JSON lines) and words (everything else)."""

    def __init__(
        self,
        argv: list[str],
        *,
        env: dict[str, str] | None = None,
        stdin: int | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        scope = {"OOMD_SCOPE": f"tree:{os.getpid()}"}
        self.process = subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **scope, **(env or {})},
            pass_fds=pass_fds,
        )
        self.events: list[dict[str, Any]] = []
        self.words: list[str] = []
        self._news = threading.Condition()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (self.process.stdout, self.process.stderr)
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Guarded:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for reader in self._readers:
            reader.join(timeout=PATIENCE_S)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def wait_event(self, kind: str, fits: Callable[[dict[str, Any]], bool] = lambda event: True) -> dict[str, Any]:
        """The first event of this kind that fits, waiting for it."""
        return self._wait(lambda: next((e for e in self.events if e["event"] == kind and fits(e)), None), kind)

    def wait_words(self, start: str) -> str:
        """The first line of the actors that begins so."""
        return self._wait(lambda: next((line for line in self.words if line.startswith(start)), None), start)

    def wait_end(self) -> int:
        """The exit status, after everything was read."""
        status = self.process.wait(timeout=PATIENCE_S)
        for reader in self._readers:
            reader.join(timeout=PATIENCE_S)
        return status

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All events of this kind so far."""
        return [event for event in self.events if event["event"] == kind]

    def victims(self) -> list[str]:
        """The names of those who were signalled, in order."""
        return [
            event["decision"]["target"]["comm"]
            for event in self.of("decision")
            if event["decision"]["action"] in ("term", "kill")
        ]

    def _wait(self, find: Callable[[], Found | None], what: str) -> Found:
        end = time.monotonic() + PATIENCE_S
        with self._news:
            while (found := find()) is None:
                left = end - time.monotonic()
                ended = self.process.poll() is not None and not any(reader.is_alive() for reader in self._readers)
                assert left > 0, f"no {what} in {PATIENCE_S} s; {self._story()}"
                assert not ended, f"ended without {what}; {self._story()}"
                self._news.wait(min(left, 0.5))
            return found

    def _story(self) -> str:
        return f"events {self.events[-5:]}, words {self.words[-20:]}"

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            text = line.decode("utf-8", "backslashreplace").rstrip("\n")
            with self._news:
                if text.startswith("{"):
                    self.events.append(json.loads(text))
                else:
                    self.words.append(text)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


def guarded(budget: str, *role: str, config: str | None = None, env: dict[str, str] | None = None) -> Guarded:
    """``oomd exec`` with this budget around an actor."""
    argv = [sys.executable, "-m", "oomd", "exec", "--budget", budget, "--log-format", "json"]
    if config is not None:
        argv += ["--config", config]
    return Guarded([*argv, "--", sys.executable, ACTORS, *role], env=env)
