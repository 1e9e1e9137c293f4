"""What happened: kills with their reasons and results, what was lost at start, the last reload. It is kept in the
ledger, so that the next outside process goes on with it.

Events come from the thread that reads the link; whoever answers questions reads and saves in another.
"""

from __future__ import annotations

import marshal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain
    from oomd.outside.ledger import Ledger

PAGE = "chronicle"
MOST_KILLS = 256
MOST_BYTES = 192 * 1024
"""Of all kills together, as marshal writes them; the ledger holds more than this page."""
MOST_DEGRADED = 32
MOST_STEPS = 4
"""Escalations that a kill remembers."""
MOST_TEXT = 400
_VICTIM = ("pid", "start_ticks", "comm", "cgroup", "kind", "name", "container", "pod", "qos")
_WORST = ("signal_to_death_us", "signal_to_memory_us")
_SIGNALS = ("term", "kill")


class Chronicle:
    """Remembers the last kills."""

    def __init__(self, ledger: Ledger, wake: Callable[[], object] = lambda: None) -> None:
        """``wake``: called when there is something to save; it must neither block nor raise."""
        self._ledger = ledger
        self._wake = wake
        self._lock = threading.Lock()
        page = ledger.page(PAGE)
        self._kills: list[Plain] = _list_of(page.get("kills"))
        self._sizes = [len(marshal.dumps(kill)) for kill in self._kills]
        self._degraded: list[Plain] = _list_of(page.get("degraded"))
        self._start: Plain = page.get("start") or {}
        self._reload: Plain = page.get("reload") or {}
        self._total = page.get("total", 0)
        self._starts = page.get("starts", 0) + 1
        self._fresh = True

    def note(self, event: Plain) -> None:
        """An event of the killer's."""
        kind = event.get("event")
        with self._lock:
            if kind == "decision" and event["decision"]["action"] in _SIGNALS:
                self._add(_kill_of(event))
            elif kind in ("outcome", "escalation"):
                self._follow(event)
            elif kind == "start":
                self._start = {key: event[key] for key in ("time", "pid", "scope", "dry_run", "report")}
            elif kind == "degraded":
                said = _said(event)
                others = [each for each in self._degraded if each.get("text") != said["text"]]
                self._degraded = [*others, said][-MOST_DEGRADED:]
            elif kind == "reload":
                self._reload = {**_said(event), "ok": event["ok"], "problems": list(event["problems"])[:MOST_DEGRADED]}
            else:
                return
            self._fresh = True
        self._wake()

    def kills(self, since: float = 0.0, most: int = MOST_KILLS) -> list[Plain]:
        """The last so many since then (seconds since 1970), oldest first."""
        with self._lock:
            return [kill for kill in self._kills if kill["time"] >= since][-most:]

    def facts(self) -> Plain:
        """``start``, ``degraded``, ``reload``, ``total`` kills, ``starts`` of an outside process."""
        with self._lock:
            return self._facts()

    def save(self) -> bool:
        """Put what is new into the ledger. Whether it fitted."""
        with self._lock:
            if not self._fresh:
                return True
            self._fresh = False
            page = {**self._facts(), "kills": [*self._kills]}
        return self._ledger.keep(PAGE, page)

    def _facts(self) -> Plain:
        return {
            "start": self._start,
            "degraded": [*self._degraded],
            "reload": self._reload,
            "total": self._total,
            "starts": self._starts,
        }

    def _add(self, kill: Plain) -> None:
        self._total += 1
        self._kills.append(kill)
        self._sizes.append(len(marshal.dumps(kill)))
        while len(self._kills) > MOST_KILLS or (sum(self._sizes) > MOST_BYTES and len(self._kills) > 1):
            del self._kills[0], self._sizes[0]

    def _follow(self, event: Plain) -> None:
        """What came of a kill: a new value in its place, because who reads may hold the old one."""
        identity = event.get("id")
        for number in range(len(self._kills) - 1, -1, -1):
            kill = self._kills[number]
            if kill["id"] == identity:
                break
        else:
            return
        if event["event"] == "escalation":
            step = {"time": event["time"], "why": str(event["why"])[:MOST_TEXT]}
            kill = {**kill, "escalations": [*kill["escalations"], step][:MOST_STEPS]}
        else:
            kill = {**kill, "outcome": _joined(kill["outcome"], event)}
        self._kills[number], self._sizes[number] = kill, len(marshal.dumps(kill))


def _kill_of(event: Plain) -> Plain:
    decision, ranking = event["decision"], event.get("ranking") or [{}]
    target = decision["target"] or {}
    evidence = [piece["detector"] for detection in event.get("detections", ()) for piece in detection["evidence"]]
    return {
        "id": event["id"],
        "time": event["time"],
        "action": decision["action"],
        "ruleset": decision["ruleset"],
        "reason": str(decision["reason"])[:MOST_TEXT],
        "asked": "asked" in evidence,
        "dry_run": bool(event.get("dry_run")),
        "victim": {key: target[key] for key in _VICTIM if key in target},
        "uid": ranking[0].get("uid"),
        "processes": decision["processes"],
        "available_bytes": event["status"]["available_bytes"],
        "escalations": [],
        "outcome": None,
    }


def _joined(known: Plain | None, event: Plain) -> Plain:
    """The outcome of one process, or of one more of several that die as one: sums, and the slowest."""
    one = {
        "time": event["time"],
        "status": event["status"],
        "detail": str(event["detail"])[:MOST_TEXT],
        "processes": 1,
        "expected_bytes": event["expected_bytes"],
        "returned_bytes": event["returned_bytes"],
        **{key: event[key] for key in _WORST},
        "reap": dict(event["reap"]),
        "hindrances": list(event["hindrances"]),
        "lifted": list(event.get("lifted", ())),
    }
    if known is None:
        return one
    for key in ("processes", "expected_bytes", "returned_bytes"):
        one[key] += known[key]
    for key in _WORST:
        one[key] = max((each for each in (one[key], known[key]) if each is not None), default=None)
    for key in ("hindrances", "lifted"):
        one[key] = sorted({*one[key], *known[key]})
    # One that was killed says more of the whole than one that had gone by itself.
    if known["status"] == "killed" or one["status"] != "killed":
        one |= {key: known[key] for key in ("status", "detail", "reap")}
    return one


def _said(event: Plain) -> Plain:
    return {"time": event.get("time", time.time()), "text": str(event.get("text", ""))[:MOST_TEXT]}


def _list_of(value: object) -> list[Plain]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
