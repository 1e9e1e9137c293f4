"""Every metric, declared: README's table, the exposition and its tests derive from this.

Names and units are Prometheus' (https://prometheus.io/docs/practices/naming/): seconds and bytes, counters end in
``_total``. No label holds a pid, a command line or anything else without a bound: rulesets come from the configuration,
pods and containers are the last few dozen that lost a process.
"""

from __future__ import annotations

from oomd.model.values import dataclass

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

FAST_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""From detection to signal: tenths of a millisecond, unless the machine takes the CPU away."""
SLOW_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Until a process of some GiB is gone, by itself or reaped."""

LAG_S = (0.0005, 0.002, 0.01, 0.05, 0.2, 1.0, 5.0)
"""The killer's own (oomd/monitor/lag.py): it counts them."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its series."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets; the last, infinity, is understood."""


FAMILIES = (
    Family("oomd_build_info", GAUGE, "Always 1: the version that runs, and on what.", ("version", "python", "kernel")),
    Family("oomd_killer_up", GAUGE, "Whether the killer answered in time; 0: what only it knows is absent."),
    Family("oomd_dry_run", GAUGE, "Whether nobody is ever signalled."),
    Family("oomd_paused", GAUGE, "Whether somebody has paused killing (oomd pause)."),
    Family(
        "oomd_shield",
        GAUGE,
        "How the killer is protected: memory locked, spared by the kernel's OOM killer, real-time.",
        ("kind",),
    ),
    Family("oomd_pressure_supported", GAUGE, "Whether the kernel tells of memory pressure (PSI)."),
    Family("oomd_reaping_supported", GAUGE, "Whether the kernel has process_mrelease and a reaper is in force."),
    Family("oomd_reaper_info", GAUGE, "Always 1: the backend that takes memory back.", ("backend",)),
    # Memory, as the killer sees it.
    Family("oomd_memory_total_bytes", GAUGE, "Memory of the machine (MemTotal)."),
    Family("oomd_memory_free_bytes", GAUGE, "Memory that nobody uses (MemFree)."),
    Family("oomd_memory_available_bytes", GAUGE, "What can still be used: of the budget, where there is one."),
    Family("oomd_memory_base_bytes", GAUGE, "What shares in rules are taken of: available and anonymous memory."),
    Family("oomd_memory_anonymous_bytes", GAUGE, "Memory of processes without a file behind it (AnonPages)."),
    Family("oomd_memory_shared_bytes", GAUGE, "Shared memory and tmpfs (Shmem), which no kill gives back for certain."),
    Family("oomd_memory_slab_unreclaimable_bytes", GAUGE, "The kernel's own memory (SUnreclaim)."),
    Family("oomd_memory_arc_bytes", GAUGE, "What ZFS would give back of its cache."),
    Family("oomd_swap_total_bytes", GAUGE, "Swap in all."),
    Family("oomd_swap_free_bytes", GAUGE, "Swap that is free."),
    Family("oomd_budget_limit_bytes", GAUGE, "The budget; absent where there is none."),
    Family("oomd_budget_usage_bytes", GAUGE, "What of the budget is in use; absent where there is none."),
    Family("oomd_headroom_bytes", GAUGE, "How far memory is from the nearest limit of a ruleset; below 0: beyond it."),
    Family("oomd_pressure_memory_waiting_seconds_total", COUNTER, "Time in which a task waited for memory (PSI some)."),
    Family("oomd_pressure_memory_stalled_seconds_total", COUNTER, "Time in which every task waited for it (PSI full)."),
    Family("oomd_kernel_oom_kills_total", COUNTER, "Processes that the kernel's own OOM killer took since boot."),
    # Rules.
    Family("oomd_ruleset_armed", GAUGE, "Whether it may act: neither resting nor paused.", ("ruleset",)),
    Family("oomd_ruleset_firing", GAUGE, "Whether its alarm holds.", ("ruleset",)),
    Family("oomd_ruleset_critical", GAUGE, "Whether it holds at the level without grace.", ("ruleset",)),
    Family(
        "oomd_ruleset_firing_since_timestamp_seconds",
        GAUGE,
        "When the alarm began to hold; absent while it does not.",
        ("ruleset",),
    ),
    # Decisions and what came of them.
    Family("oomd_decisions_total", COUNTER, "Decisions that were told.", ("ruleset", "action")),
    Family(
        "oomd_steps_total",
        COUNTER,
        "What came of gentle steps before anybody is signalled.",
        ("ruleset", "action", "result"),
    ),
    Family("oomd_step_taken_bytes_total", COUNTER, "What they reclaimed or swapped out.", ("ruleset", "action")),
    Family("oomd_candidates_total", COUNTER, "Candidates looked at in decisions: ranked, rejected.", ("verdict",)),
    Family("oomd_refusals_total", COUNTER, "Victims that might not be touched, or were gone, when it came to it."),
    Family("oomd_escalations_total", COUNTER, "Victims that were asked to go and then killed."),
    Family(
        "oomd_kills_total",
        COUNTER,
        "Processes signalled, by what came of it and the last signal sent.",
        ("ruleset", "outcome", "signal"),
    ),
    Family(
        "oomd_pod_kills_total",
        COUNTER,
        "The same by pod and container (uid and id where no name is known); only the 64 that lost a process last.",
        ("namespace", "pod", "container", "qos"),
    ),
    Family("oomd_kills_by_others_total", COUNTER, "Processes that others had killed and whose end was waited for."),
    Family("oomd_kill_expected_bytes_total", COUNTER, "What victims were expected to give back.", ("ruleset",)),
    Family("oomd_kill_returned_bytes_total", COUNTER, "What was seen to come back.", ("ruleset",)),
    Family("oomd_kill_last_timestamp_seconds", GAUGE, "When the last kill was over; absent before the first."),
    Family("oomd_kills_in_progress", GAUGE, "Victims whose memory is still to come."),
    Family("oomd_credit_bytes", GAUGE, "What these are still expected to give back; it counts as available."),
    Family("oomd_futile_kills", GAUGE, "Kills in a row that gave back almost nothing."),
    Family("oomd_resting", GAUGE, "Whether nobody is killed for a while, as kills gave back almost nothing."),
    Family("oomd_detection_to_signal_seconds", HISTOGRAM, "From the wake-up that saw it to the signal.", (), FAST_S),
    Family("oomd_signal_to_death_seconds", HISTOGRAM, "From the last signal to the end.", ("signal",), SLOW_S),
    Family(
        "oomd_signal_to_memory_seconds",
        HISTOGRAM,
        "From the last signal until nine tenths of the memory were back.",
        ("signal",),
        SLOW_S,
    ),
    Family(
        "oomd_reap_duration_seconds",
        HISTOGRAM,
        "How long reaping a victim took, hastened exits included.",
        ("backend", "result"),
        (0.0001, 0.0005, *SLOW_S),
    ),
    Family("oomd_hastened_exits_total", COUNTER, "Processes killed by others whose end was hastened (every_exit)."),
    # The loop.
    Family("oomd_loop_ticks_total", COUNTER, "Looks at memory."),
    Family("oomd_loop_interval_seconds", GAUGE, "Time until the next look, if nothing happens before."),
    Family("oomd_loop_lag_seconds", HISTOGRAM, "How much later than asked for the loop woke.", (), LAG_S),
    Family("oomd_loop_warm", GAUGE, "Whether memory is so short that processes are looked at."),
    Family("oomd_leaders", GAUGE, "Processes that are kept open, the largest."),
    # Its two processes.
    Family("oomd_process_cpu_seconds_total", COUNTER, "Processor time.", ("process",)),
    Family("oomd_process_resident_memory_bytes", GAUGE, "Resident memory.", ("process",)),
    Family("oomd_process_major_page_faults_total", COUNTER, "Faults that had to wait for a disk.", ("process",)),
    Family("oomd_process_threads", GAUGE, "Threads.", ("process",)),
    Family("oomd_process_start_time_seconds", GAUGE, "When it was started.", ("process",)),
    Family("oomd_outside_starts_total", COUNTER, "Starts of the outside process, the first included."),
    Family("oomd_reports_dropped_total", COUNTER, "Reports that did not fit the link, or their sink.", ("where",)),
    Family("oomd_degradations_total", COUNTER, "Times that something was told to be lost or missing while running."),
    Family("oomd_config_reloads_total", COUNTER, "Reloads of the configuration.", ("result",)),
    Family("oomd_config_last_reload_successful", GAUGE, "Whether the last reload (or the start) took the file."),
    Family("oomd_config_last_reload_success_timestamp_seconds", GAUGE, "When the configuration in force was taken."),
    Family("oomd_metrics_requests_total", COUNTER, "Requests for these figures that were answered.", ("code",)),
    Family(
        "oomd_metrics_connections_dropped_total",
        COUNTER,
        "Connections given up: too slow, or one too many.",
        ("why",),
    ),
)
BY_NAME = {family.name: family for family in FAMILIES}
