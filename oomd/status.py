"""How the killer stands, as plain values: what ``oomd status`` shows and what is measured for Prometheus."""

from __future__ import annotations

from oomd.model.report import plain_credit, plain_detection, plain_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.loop import Loop
    from oomd.model.report import Plain
    from oomd.model.ruleset import Pause


def plain_pause(pause: Pause) -> Plain:
    """A pause; its times as in :func:`plain_loop`."""
    return {"since_us": pause.since_us, "until_us": pause.until_us, "why": pause.why, "by": pause.by}


def plain_loop(loop: Loop) -> Plain:
    """Memory and rules as of the last tick, and the kills under way.

    Times (``…_us``) are CLOCK_MONOTONIC in microseconds, as is ``status.time_us``, the moment that all this is of.
    ``rulesets`` stand in the order of the configuration: the detection of each, and until when it rests after it acted
    (0: it does not).
    """
    state = loop.state
    memories = zip(loop.rules.rulesets, state.rulesets, strict=True)
    detected = {detection.ruleset: plain_detection(detection) for detection in loop.detections}
    return {
        "status": None if loop.status is None else plain_status(loop.status),
        "rulesets": [
            {
                **detected.get(ruleset.name, {"ruleset": ruleset.name}),
                "paused_until_us": memory.paused_until_us,
                "policy": "" if ruleset.policy is None else ruleset.policy.name,
            }
            for ruleset, memory in memories
        ],
        "kills": [plain_credit(credit) for credit in state.credits],
        "refusals": len(state.refusals),
        "futile_kills": state.futile_kills,
        "resting_until_us": state.resting_until_us,
        "pause": None if state.pause is None else plain_pause(state.pause),
        "headroom_bytes": loop.pace.headroom_bytes,
        "warm": loop.pace.warm,
        "interval_us": loop.pace.interval_us,
        "ticks": loop.ticks,
        "lags": loop.lags.plain(),
        "decisions": loop.act.decisions,
        "dry_run": loop.parts.executor.dry_run,
        "leaders": len(loop.parts.table.leaders),
    }
