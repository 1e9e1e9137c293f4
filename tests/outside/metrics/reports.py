"""Reports of the killer and its answer to ``status``, made by its own functions."""

from __future__ import annotations

from typing import Any

from oomd.model.decision import KillOutcome
from oomd.model.report import plain_detection, plain_outcome, plain_status
from oomd.monitor.lag import Lags
from tests.fakes.builders import alarm, process, status
from tests.outside.events import DECISION, OUTCOME

__all__ = ["DECISION", "OUTCOME", "answer", "outcome", "start"]


def start(**changes: Any) -> dict[str, Any]:
    """The report at the start."""
    report = {
        "kernel": "6.1.0",
        "psi": True,
        "calls": {"process_mrelease": True},
        "reaper": "mrelease",
        "locked": True,
        "shielded": True,
        "realtime": False,
    }
    return {"event": "start", "time": 100.0, "dry_run": False, "report": {**report, **changes}}


def outcome(*, cgroup: str = "", **changes: Any) -> dict[str, Any]:
    """An outcome of a process in this cgroup."""
    values: dict[str, Any] = {"ruleset": "level", "signal": "SIGKILL", "reap_backend": "mrelease", "reap_errno": 0}
    values |= {"reap_us": 2000, "expected_bytes": 100, "returned_bytes": 90, "status": "killed"} | changes
    told = KillOutcome("3", process(7, cgroup=cgroup), **values)
    return {"event": "outcome", "time": 7.0, "id": "3", **plain_outcome(told)}


def answer(*rulesets: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What the killer answers: ``rulesets`` with what differs from one at rest."""
    quiet = {**plain_detection(alarm()), "fired": False, "critical": False, "since_us": None}
    return {
        "status": plain_status(status(psi_some_us=3_000_000, psi_full_us=1_000_000)),
        "rulesets": [{**quiet, "paused_until_us": 0, "policy": "culprit", **each} for each in rulesets or ({},)],
        "kills": [],
        "refusals": 0,
        "futile_kills": 0,
        "resting_until_us": 0,
        "headroom_bytes": 5 << 20,
        "warm": False,
        "interval_us": 100_000,
        "ticks": 12,
        "lags": Lags().plain(),
        "decisions": 0,
        "dry_run": False,
        "leaders": 4,
        "reports_dropped": 2,
        **changes,
    }
