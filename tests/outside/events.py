"""A decision and its outcome, made by the real engine."""

from __future__ import annotations

from oomd.config.loader import default_config
from oomd.engine.selection import select
from oomd.model.decision import Candidate, Decision, KillOutcome, Times
from oomd.model.report import plain_decision, plain_outcome, plain_step, plain_times
from oomd.model.ruleset import EngineState
from tests.fakes.builders import alarm, process, snapshot, status

DECISION = {
    "event": "decision",
    "time": 0.0,
    "id": "3",
    "dry_run": False,
    "times": plain_times(Times(1000, 1100, 1250, 1400, lag_us=20)),
    **plain_decision(
        select(
            default_config().rules,
            snapshot(process(7, 500, comm="leaker"), process(8, 20), process(9, 80, comm="sshd", uid=0)),
            (alarm(critical=True),),
            EngineState(),
        )
    ),
}
OUTCOME = {
    "event": "outcome",
    "time": 0.0,
    "id": "3",
    **plain_outcome(
        KillOutcome(
            "3",
            process(7, 500, comm="leaker"),
            "killed",
            signal_to_death_us=40_000,
            signal_to_memory_us=30_000,
            expected_bytes=500 << 20,
            returned_bytes=490 << 20,
            reap_backend="mrelease",
            reap_errno=0,
            reap_us=25_000,
            hindrances=("SCHED_IDLE",),
        )
    ),
}
STEP = {
    "event": "step",
    "time": 0.0,
    **plain_step(
        "4",
        Decision(
            "reclaim",
            "level: low; reclaim for cgroup /a",
            status(),
            ruleset="level",
            target=Candidate(process(7, 500, comm="cold"), 1, "size", "normal", 1, kind="cgroup", name="/a"),
            step=1,
        ),
        "enough",
        "there is nothing cold left",
        gained_bytes=200 << 20,
        taken_bytes=210 << 20,
        took_us=3_000_000,
        worked_us=400_000,
    ),
}
