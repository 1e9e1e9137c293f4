"""How the killer stands, as figures: what it answers to ``status`` (oomd/status.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oomd.engine.pacing import NO_LIMIT_BYTES
from oomd.outside.metrics.counts import ruleset_label
from oomd.outside.metrics.samples import Samples

if TYPE_CHECKING:
    from oomd.model.report import Plain

_MICRO = 1e-6
_MEMORY = {
    "oomd_memory_total_bytes": "mem_total_bytes",
    "oomd_memory_free_bytes": "mem_free_bytes",
    "oomd_memory_available_bytes": "available_bytes",
    "oomd_memory_base_bytes": "base_bytes",
    "oomd_memory_anonymous_bytes": "anon_bytes",
    "oomd_memory_shared_bytes": "shmem_bytes",
    "oomd_memory_slab_unreclaimable_bytes": "slab_unreclaimable_bytes",
    "oomd_memory_arc_bytes": "arc_bytes",
    "oomd_swap_total_bytes": "swap_total_bytes",
    "oomd_swap_free_bytes": "swap_free_bytes",
}
_PRESSURE = {
    "oomd_pressure_memory_waiting_seconds_total": "psi_some_us",
    "oomd_pressure_memory_stalled_seconds_total": "psi_full_us",
}


def standing_samples(answer: Plain, wall_s: float) -> Samples:
    """The figures of an answer that came at this time of day."""
    samples = Samples()
    status = answer["status"]
    if status is not None:
        _memory(samples, status)
        _rulesets(samples, answer, wall_s)
        samples.put("oomd_resting", answer["resting_until_us"] > status["time_us"])
    samples.put("oomd_dry_run", answer["dry_run"])
    samples.put("oomd_paused", answer.get("pause") is not None)
    if answer["headroom_bytes"] < NO_LIMIT_BYTES:
        samples.put("oomd_headroom_bytes", answer["headroom_bytes"])
    samples.put("oomd_kills_in_progress", len(answer["kills"]))
    to_come = sum(max(0, each["expected_bytes"] - each["returned_bytes"]) for each in answer["kills"])
    samples.put("oomd_credit_bytes", to_come)
    samples.put("oomd_futile_kills", answer["futile_kills"])
    samples.put("oomd_loop_ticks_total", answer["ticks"])
    samples.put("oomd_loop_interval_seconds", answer["interval_us"] * _MICRO)
    samples.put("oomd_loop_warm", answer["warm"])
    samples.put("oomd_leaders", answer["leaders"])
    samples.put("oomd_reports_dropped_total", answer["reports_dropped"], "link")
    lags = answer["lags"]
    samples.buckets["oomd_loop_lag_seconds"] = {(): [*lags["counts"], lags["total_us"] * _MICRO]}
    return samples


def ruleset_names(answer: Plain) -> tuple[str, ...]:
    """The rulesets in force, as labels."""
    return tuple(dict.fromkeys(ruleset_label(each["ruleset"]) for each in answer["rulesets"]))


def _memory(samples: Samples, status: Plain) -> None:
    for name, key in _MEMORY.items():
        samples.put(name, status[key])
    for name, key in _PRESSURE.items():
        if status[key] is not None:
            samples.put(name, status[key] * _MICRO)
    if status["budget"] is not None:
        samples.put("oomd_budget_limit_bytes", status["budget"]["limit_bytes"])
        samples.put("oomd_budget_usage_bytes", status["budget"]["usage_bytes"])


def _rulesets(samples: Samples, answer: Plain, wall_s: float) -> None:
    """Several that share a label (units' own) are told as one: armed or firing where any is, since the first."""
    now_us = answer["status"]["time_us"]
    idle = answer.get("pause") is not None or answer["resting_until_us"] > now_us
    for name in ruleset_names(answer):
        group = [each for each in answer["rulesets"] if ruleset_label(each["ruleset"]) == name]
        armed = any(each["paused_until_us"] <= now_us for each in group)
        samples.put("oomd_ruleset_armed", armed and not idle, name)
        samples.put("oomd_ruleset_firing", any(each.get("fired") for each in group), name)
        samples.put("oomd_ruleset_critical", any(each.get("critical") for each in group), name)
        since = [each["since_us"] for each in group if each.get("since_us") is not None]
        if since:
            began_s = wall_s - (now_us - min(since)) * _MICRO
            samples.put("oomd_ruleset_firing_since_timestamp_seconds", began_s, name)
