"""journald, with fields that programs can ask for. The only module that knows systemd-python."""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING

from oomd.model.placement import placement_of
from oomd.outside.logcat import KIND as LOGCAT
from oomd.outside.logcat import render_logcat
from oomd.outside.text import describe_event

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain

SOCKET = "/run/systemd/journal/socket"
MESSAGE_IDS = {
    "start": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e01",
    "decision": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e02",
    "escalation": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e03",
    "outcome": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e04",
    "reload": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e05",
    "degraded": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e06",
    "step": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e07",
    "hastened": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e08",
    "refused": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e09",
    "stop": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e0a",
    "note": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e0b",
    "pause": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e0c",
    "resume": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e0d",
    "lmkd": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e0e",
    "hook": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e0f",
    "shortage": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e10",
    "proactive": "2f0d6c0e5d9b4f5f8b1d6c4b6a0b1e11",
}
"""What ``journalctl MESSAGE_ID=…`` asks for, and what systemd/oomd.catalog explains (``journalctl -x``): one for every
kind of event. They never change.
"""
_PRIORITIES = {"decision": 4, "escalation": 4, "outcome": 5, "degraded": 4, "refused": 4, "pause": 4, "step": 5}
_INFO = 6
_LETTERS = {"E": 3, "W": 4}
"""Of logcat."""
_FACTS = {
    "DECISION_ID": "id",
    "DRY_RUN": "dry_run",
    "STATUS": "status",
    "DETAIL": "detail",
    "WHY": "why",
    "OK": "ok",
    "PROBLEMS": "problems",
    "EXPECTED_BYTES": "expected_bytes",
    "RETURNED_BYTES": "returned_bytes",
    "SIGNAL_TO_DEATH_US": "signal_to_death_us",
    "SIGNAL_TO_MEMORY_US": "signal_to_memory_us",
    "REAP_BACKEND": "reap.backend",
    "REAP_ERRNO": "reap.errno",
    "REAP_US": "reap.duration_us",
    "HINDRANCES": "hindrances",
    "LIFTED": "lifted",
    "UNTOLD": "untold",
    "ACTION": "decision.action",
    "RULESET": "decision.ruleset",
    "REASON": "decision.reason",
    "VICTIM_PROCESSES": "decision.processes",
    "AVAILABLE_BYTES": "status.available_bytes",
    "SWAP_FREE_BYTES": "status.swap_free_bytes",
    "LAG_US": "times.lag_us",
    "HOOKS_US": "times.hooks_us",
    "SCANS": "times.scans",
    "SCOPE": "scope",
    "KERNEL": "report.kernel",
    "REAPER": "report.reaper",
    "LOST": "report.lost",
    "DECISIONS": "counters.decisions",
    "DROPPED": "counters.dropped",
    "PAUSE_US": "duration_us",
    "PAUSED_US": "paused_us",
    "BY": "by",
    "GAINED_BYTES": "gained_bytes",
    "TAKEN_BYTES": "taken_bytes",
    "STAGE": "stage",
    "HOOK": "hook",
    "LEVEL": "level",
    "EXIT_STATUS": "exit_status",
    "SIGNAL": "signal",
    "TOOK_US": "took_us",
}
"""Where in an event each fact lies, by the name of its field without ``OOMD_``."""
_VICTIM = (
    *("pid", "comm", "uid", "kind", "name", "cgroup", "oom_score_adj"),
    *("container", "container_name", "pod", "pod_name", "namespace", "qos"),
)
_LISTED = "\n"
"""Between several values of one field."""


class JournalMissing(Exception):  # noqa: N818 - a state, not a fault
    """journald cannot be used here; the message says why."""


def open_journal() -> Callable[[Plain], None]:
    """A sink that sends to journald. Raises JournalMissing."""
    if not os.path.exists(SOCKET):
        raise JournalMissing("journald does not run here")
    try:
        from systemd import journal  # never `import systemd`: a folder of that name would do
    except ImportError as error:
        raise JournalMissing("systemd-python is not installed") from error

    def send(event: Plain) -> None:
        wait_for_room(SOCKET)
        journal.send(message_of(event), **fields_of(event))

    return send


def wait_for_room(path: str, timeout_ms: int | None = None) -> bool:
    """Wait until the datagram socket at ``path`` takes one more; False after the timeout. Raises OSError when nobody
    listens there.

    libsystemd sends on a blocking socket, and systemd-python (235) keeps the GIL meanwhile: a journald that hangs would
    stop the thread that drains the link, too. poll knows whether the receiver's queue is full once we are connected to
    it, and waits without the GIL.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        probe.connect(path)
        poll = select.poll()
        poll.register(probe, select.POLLOUT)
        return bool(poll.poll(timeout_ms))


def message_of(event: Plain) -> str:
    """What people read; of lmkd, what readers of its log parse."""
    return render_logcat(event).rstrip("\n") if event["event"] == LOGCAT else "\n".join(describe_event(event))


def fields_of(event: Plain) -> dict[str, str]:
    """The journal fields of an event, as text: one for each fact that programs may ask for."""
    logcat = event["event"] == LOGCAT
    priority = _LETTERS.get(event["letter"], _INFO) if logcat else _PRIORITIES.get(event["event"], _INFO)
    fields = {
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": event["tag"] if logcat else "oomd",
        "OOMD_EVENT": event["event"],
    }
    if event["event"] in MESSAGE_IDS:
        fields["MESSAGE_ID"] = MESSAGE_IDS[event["event"]]
    event = _with_decision(event)
    facts = {f"OOMD_{name}": _text(_value(event, path)) for name, path in _FACTS.items()}
    facts |= _facts_of_victim(event) | _facts_of_alarm(event)
    return fields | {name: text for name, text in facts.items() if text}


def _with_decision(event: Plain) -> Plain:
    """What came of a gentle step has the fields of its decision."""
    return {**event, "decision": {**event, "reason": event["why"]}} if event["event"] == "step" else event


def _facts_of_victim(event: Plain) -> Plain:
    """Who dies, or died; and under which unit's name ``journalctl -u`` shows it."""
    victim = (event.get("decision") or {}).get("target") or event
    if "comm" not in victim:
        return {}
    leader = (event.get("ranking") or [{}])[0]
    if leader.get("pid") == victim["pid"]:
        victim = {**leader, **victim}
    facts = {f"OOMD_VICTIM_{name.upper()}": _text(victim.get(name)) for name in _VICTIM}
    facts["OOMD_FREEABLE_BYTES"] = _text(victim.get("freeable_bytes"))
    units = placement_of(victim.get("cgroup", "")).units
    if units and not units[-1].endswith(".slice"):
        facts["OBJECT_SYSTEMD_UNIT"] = units[-1]
    return facts


def _facts_of_alarm(event: Plain) -> Plain:
    """What fired, and how long it took until the signal."""
    facts: Plain = {}
    ruleset = (event.get("decision") or {}).get("ruleset")
    for detection in event.get("detections") or ():
        if detection["ruleset"] == ruleset:
            facts["OOMD_CRITICAL"] = _text(detection["critical"])
            held = [piece for piece in detection["evidence"] if piece["holds"]]
            facts["OOMD_DETECTORS"] = _text([piece["detector"] for piece in held])
            facts["OOMD_EVIDENCE"] = _text([piece["text"] for piece in held])
    times = event.get("times") or {}
    if times.get("signalled_us") is not None:
        facts["OOMD_WAKE_TO_SIGNAL_US"] = str(times["signalled_us"] - times["wake_us"])
    return facts


def _value(event: Plain, path: str) -> object:
    value: object = event
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _text(value: object) -> str:
    """Empty for what is not there; ``1`` and ``0`` for yes and no."""
    if value is None or isinstance(value, dict):
        return ""
    if isinstance(value, (list, tuple)):
        return _LISTED.join(map(_text, value))
    return str(int(value)) if isinstance(value, bool) else str(value)
