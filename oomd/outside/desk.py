"""What is done for a request of the control socket: questions to the killer, whose answers come later, and what this
process knows itself. All of it runs in the control's thread.
"""

from __future__ import annotations

import marshal
import os
import time
from typing import TYPE_CHECKING, Any

from oomd import __version__
from oomd.outside import lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain
    from oomd.outside.chronicle import Chronicle
    from oomd.outside.killer import Killer
    from oomd.outside.lines import Request
    from oomd.outside.peers import Peer

    Done = Callable[[Plain], object]
    """Takes the answer without its envelope."""

READING = frozenset({"status", "next", "kills"})
"""What changes nothing."""
PATIENCE_S = {"reload": 40.0, "kill_now": 10.0}
"""How long the answer to a request may take."""
USUAL_PATIENCE_S = 5.0
STATUS_EVERY_S = 0.1
"""Whoever asks sooner gets what the last one got: each question wakes the killer."""
ANSWER_BYTES = 192 * 1024
"""Of one answer with kills; who wants more asks again."""
LAST_KILLS = 3
"""In the status."""
SECOND_US = 1_000_000


class Desk:
    """Handles requests of those who may make them."""

    def __init__(
        self,
        killer: Killer,
        chronicle: Chronicle,
        call_soon: Callable[[Callable[[], object]], object],
        *,
        about: Plain,
        not_written: Callable[[], int],
    ) -> None:
        """``call_soon`` has something done in the control's thread. ``about``: what a status tells of this process.
        ``not_written``: reports that were lost here.
        """
        self._killer = killer
        self._chronicle = chronicle
        self._call_soon = call_soon
        self._about = about
        self._not_written = not_written
        self._waiting: list[Done] = []
        """Who waits for the status that the killer was asked for."""
        self._asked_s = 0.0
        self._state: Plain | None = None
        self._state_s = 0.0
        self._handlers: dict[str, Callable[[Request, Peer, Done], object]] = {
            "status": self._tell_status,
            "next": lambda _, __, done: self._relay("next", done),
            "kills": self._tell_kills,
            "pause": self._pause,
            "resume": lambda _, peer, done: self._relay("resume", done, by=peer.words),
            "reload": lambda _, __, done: self._relay("reload", done),
            "kill_now": self._kill_now,
        }

    def handle(self, request: Request, peer: Peer, done: Done) -> None:
        """``done`` is called at most once, now or later; never where the killer does not answer."""
        self._handlers[request.name](request, peer, done)

    def save(self) -> None:
        """Keep what is to outlive us."""
        self._chronicle.save()

    @staticmethod
    def patience_s(request: Request) -> float:
        """How long its answer is waited for."""
        return PATIENCE_S.get(request.name, USUAL_PATIENCE_S)

    def _relay(self, command: str, done: Done, **content: object) -> None:
        """Ask the killer; its words are the answer."""

        def take(answer: Plain) -> None:
            self._call_soon(lambda: done(_without_link(answer)))

        patience_s = PATIENCE_S.get(command, USUAL_PATIENCE_S)
        if not self._killer.pose(command, take, patience_s, **content):
            done({"ok": False, "error": lines.NO_ANSWER, "text": "the killer cannot be asked: its link is full"})

    def _pause(self, request: Request, peer: Peer, done: Done) -> None:
        duration_us = int(request.parameters["seconds"] * SECOND_US)
        self._relay("pause", done, duration_us=duration_us, why=request.parameters["reason"], by=peer.words)

    def _kill_now(self, request: Request, peer: Peer, done: Done) -> None:
        self._relay("kill_now", done, by=peer.words, dry_run=request.parameters.get("dry_run", False))

    def _tell_kills(self, request: Request, _: Peer, done: Done) -> None:
        kept = self._chronicle.kills(request.parameters.get("since", 0.0), request.parameters.get("most", 1 << 30))
        size, fitting = 0, 0
        for kill in reversed(kept):
            size += 2 * len(marshal.dumps(kill))  # JSON is no larger than that
            if size > ANSWER_BYTES and fitting:
                break
            fitting += 1
        total = self._chronicle.facts()["total"]
        done({"ok": True, "kills": kept[len(kept) - fitting :], "left_out": len(kept) - fitting, "total": total})

    def _tell_status(self, _: Request, __: Peer, done: Done) -> None:
        now_s = time.monotonic()
        if self._state is not None and now_s - self._state_s < STATUS_EVERY_S:
            done(self._status_of(self._state))
            return
        if self._waiting and now_s - self._asked_s < USUAL_PATIENCE_S:
            self._waiting.append(done)
            return
        self._waiting, self._asked_s = [done], now_s
        self._relay("status", self._take_status)

    def _take_status(self, answer: Plain) -> None:
        waiting, self._waiting = self._waiting, []
        if answer["ok"]:
            self._state, self._state_s = answer["status"], time.monotonic()
            answer = self._status_of(answer["status"])
        for done in waiting:
            done(answer)

    def _status_of(self, state: Plain) -> Plain:
        facts = self._chronicle.facts()
        start, report = facts["start"], facts["start"].get("report", {})
        lost = [{"time": start.get("time"), "text": text} for text in report.get("lost", ())]
        return {
            "ok": True,
            "oomd": __version__,
            "time": time.time(),
            "daemon": {
                "pid": start.get("pid"),
                "started": start.get("time"),
                "scope": start.get("scope"),
                "dry_run": state["dry_run"],
                "reaper": report.get("reaper"),
                "kernel": report.get("kernel"),
                "swap": report.get("swap", []),
                "locked": report.get("locked"),
                "shielded": report.get("shielded"),
                "realtime": report.get("realtime"),
                "reports_dropped": state["reports_dropped"],
            },
            "outside": {
                "pid": os.getpid(),
                "starts": facts["starts"],
                "reports_not_written": self._not_written(),
                **self._about,
            },
            "degraded": [*lost, *facts["degraded"]],
            "reload": facts["reload"] or None,
            "pause": _pause_of(state),
            "kills_total": facts["total"],
            "kills": self._chronicle.kills(most=LAST_KILLS),
            "state": state,
        }


def _pause_of(state: Plain) -> Plain | None:
    """With the time that is left, and its end by the clock on the wall."""
    pause, status = state.get("pause"), state.get("status")
    if pause is None or status is None:
        return None
    left_us = max(0, pause["until_us"] - status["time_us"])
    told: dict[str, Any] = {"why": pause["why"], "by": pause["by"], "left_us": left_us}
    return {**told, "until": time.time() + left_us / SECOND_US}


def _without_link(answer: Plain) -> Plain:
    """What the killer said, without what only the link needs; a no has an error."""
    told = {key: value for key, value in answer.items() if key not in ("event", "number", "time")}
    return told if told.get("ok") is True else {"error": lines.REFUSED, "text": "", **told, "ok": False}
