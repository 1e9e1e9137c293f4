"""journald, with fields that programs can ask for. The only module that knows systemd-python."""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING

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
}
"""What ``journalctl MESSAGE_ID=…`` asks for."""
_PRIORITIES = {"decision": 4, "escalation": 4, "outcome": 5, "degraded": 4, "refused": 4, "pause": 4, "step": 5}
_OF_THE_VICTIM = (
    *("pid", "comm", "cgroup"),
    *("container", "container_name", "pod", "pod_name", "namespace", "qos"),
)
_INFO = 6
_LETTERS = {"E": 3, "W": 4}
"""Of logcat."""
_FIGURES = (
    *("status", "expected_bytes", "returned_bytes", "signal_to_death_us", "signal_to_memory_us"),
    *("gained_bytes", "taken_bytes", "took_us"),
)


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
    """The journal fields of an event, as text."""
    logcat = event["event"] == LOGCAT
    priority = _LETTERS.get(event["letter"], _INFO) if logcat else _PRIORITIES.get(event["event"], _INFO)
    fields = {
        "PRIORITY": str(priority),
        "SYSLOG_IDENTIFIER": event["tag"] if logcat else "oomd",
        "OOMD_EVENT": event["event"],
    }
    if event["event"] in MESSAGE_IDS:
        fields["MESSAGE_ID"] = MESSAGE_IDS[event["event"]]
    if "id" in event:
        fields["OOMD_DECISION_ID"] = str(event["id"])
    decision = event.get("decision") or _step_of(event)
    for name in ("action", "ruleset", "reason"):
        if decision.get(name):
            fields[f"OOMD_{name.upper()}"] = str(decision[name])
    victim = decision.get("target") or event
    for name in _OF_THE_VICTIM:
        if victim.get(name):
            fields[f"OOMD_VICTIM_{name.upper()}"] = str(victim[name])
    times = event.get("times") or {}
    if times.get("signalled_us") is not None:
        fields["OOMD_WAKE_TO_SIGNAL_US"] = str(times["signalled_us"] - times["wake_us"])
        fields["OOMD_LAG_US"] = str(times["lag_us"])
    for name in _FIGURES:
        if isinstance(event.get(name), (int, str)):
            fields[f"OOMD_{name.upper()}"] = str(event[name])
    return fields


def _step_of(event: Plain) -> Plain:
    """What came of a gentle step has the fields of its decision."""
    return {**event, "reason": event["why"]} if event["event"] == "step" else {}
