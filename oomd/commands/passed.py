"""Sockets that systemd listens on for us; sd_listen_fds(3)."""

from __future__ import annotations

import os

FIRST = 3
"""SD_LISTEN_FDS_START."""
METRICS = "metrics"
"""``FileDescriptorName=`` of the sockets on which metrics are served (systemd/oomd-metrics.socket)."""


def passed_fds(pid: int) -> dict[int, str]:
    """Every descriptor that was passed to this very process (or the one that it is the scout of), with its name."""
    if os.environ.get("LISTEN_PID") != str(pid):
        return {}
    number = int(os.environ.get("LISTEN_FDS") or 0)
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    return {FIRST + place: names[place] if place < len(names) else "" for place in range(number)}


def metrics_fds(pid: int) -> list[int]:
    """Those on which metrics are to be served."""
    return [fd for fd, name in passed_fds(pid).items() if name == METRICS]
