"""Lines in the kernel log: they outlive a machine that dies (pstore, netconsole), and node-problem-detector reads them.

Their shape is fixed: configs/node-problem-detector/oomd.json has the patterns, and a test matches them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oomd.config.problems import printable

if TYPE_CHECKING:
    from oomd.model.report import Plain

PATH = "/dev/kmsg"
MOST_BYTES = 900
"""The kernel refuses a record of more than 1024, its own head included."""
_WARNING, _NOTICE = 12, 13
"""Facility user (8) with the level: the kernel lets nobody else speak for itself."""
_SIGNALS = {"term": "SIGTERM", "kill": "SIGKILL"}


class Kmsg:
    """Writes one line for each decision that signals somebody, each escalation and each outcome. The kernel takes ten
    lines in five seconds from anybody (``kernel.printk_devkmsg=ratelimit``) and counts the rest.
    """

    def __init__(self, path: str = PATH) -> None:
        """Raises OSError. Writing takes no capability: the file is root's, and reading alone is privileged."""
        self._fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)

    def __call__(self, event: Plain) -> None:
        """Write what this event has to say, if anything. Raises OSError."""
        level, line = line_of(event)
        if line:
            text = printable(f"oomd: {line}").encode("ascii", "backslashreplace")[:MOST_BYTES]
            os.write(self._fd, b"<%d>%s\n" % (level, text))


def line_of(event: Plain) -> tuple[int, str]:
    """Priority and text; no text for what does not belong there."""
    kind = event["event"]
    if kind == "decision" and event["decision"]["action"] in _SIGNALS and event["decision"]["target"] is not None:
        return _WARNING, _decision(event)
    if kind == "escalation":
        return _WARNING, f"decision {event['id']}: sending SIGKILL to process {event['pid']}: {event['why']}"
    if kind == "outcome":
        return _NOTICE, _outcome(event)
    return 0, ""


def _decision(event: Plain) -> str:
    decision = event["decision"]
    target = decision["target"]
    verb = "would send" if event.get("dry_run") else "sending"
    count = decision["processes"]
    more = f" and {count - 1} more of {target['kind']} {target.get('name', '')}" if count > 1 else ""
    signal = _SIGNALS[decision["action"]]
    return f"decision {event['id']}: {verb} {signal} to {_who(target)}{more}: {decision['reason']}"


def _outcome(event: Plain) -> str:
    back, expected = event["returned_bytes"] >> 10, event["expected_bytes"] >> 10
    return f"decision {event['id']}: {_who(event)}, {event['status']}: {back}kB of {expected}kB back"


def _who(process: Plain) -> str:
    """The figures first: a name may hold anything, and a cgroup's path be long."""
    who = f"process {process['pid']} ({process['comm']}), uid {process['uid']}"
    if process.get("pod"):
        who += f", pod {process.get('namespace', '')}/{process.get('pod_name') or process['pod']}"
    return f"{who}, cgroup {process['cgroup']}" if process.get("cgroup") else who
