"""What is counted from the killer's reports. It begins with what the last outside process had counted (the ledger)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from oomd.outside.metrics.catalogue import BY_NAME
from oomd.outside.metrics.samples import Samples, clean

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain
    from oomd.outside.metrics.samples import Labels

FORM = 1
"""Of the page in the ledger: one of another form is not read."""
MOST_CONTAINERS = 64
MOST_PENDING = 64
SYSTEMD = "systemd: /"
UNITS = "systemd: pressure"
"""Rulesets of units' own settings count as one: there may be a hundred, and nobody wrote them here."""
RESULTS = {
    0: "reaped",
    errno.ESRCH: "quicker",
    errno.EINVAL: "shared",
    errno.ENOSYS: "unsupported",
    errno.EPERM: "not_permitted",
}
"""What a reap came to; ``quicker``: the victim had freed its memory itself."""
KILLED = (("killed", "SIGKILL"), ("exited", "SIGTERM"), ("timed_out", "SIGKILL"))
"""What a kill usually comes to: told as 0 from the beginning, so that a rate sees the first."""
_MICRO = 1e-6


class Counts:
    """Not for several threads at once."""

    def __init__(self, page: Plain | None = None) -> None:
        self.samples = Samples()
        self.containers: dict[Labels, float] = {}
        """Kills by the pod's uid, the container's id and the class; whoever lost a process last stands last."""
        self.names: dict[Labels, Labels] = {}
        """Namespace, pod and container, by the same, as far as they are known."""
        self.facts: Plain = {}
        """What the killer told at its start: it tells that once, however often the outside process is started."""
        self._woke: dict[str, int] = {}
        """By the id of a decision: when the loop woke for it, until it is known when the signal was sent."""
        self._events: dict[str, Callable[[Plain], None]] = {
            "start": self._start,
            "decision": self._decision,
            "escalation": self._escalation,
            "refused": lambda _: self.samples.add("oomd_refusals_total", 1),
            "step": self._step,
            "outcome": self._outcome,
            "hastened": self._hastened,
            "reload": self._reload,
            "degraded": lambda _: self.samples.add("oomd_degradations_total", 1),
        }
        self._revive(page or {})

    def note(self, event: Plain) -> bool:
        """Count a report; whether it was one that counts."""
        count = self._events.get(event["event"])
        if count is None:
            return False
        count(event)
        return True

    def page(self) -> Plain:
        """For the ledger."""
        return {
            "form": FORM,
            "numbers": self.samples.numbers,
            "buckets": self.samples.buckets,
            "containers": self.containers,
            "names": self.names,
            "facts": self.facts,
        }

    def container_series(self) -> dict[Labels, float]:
        """Kills by namespace, pod, container and class; of a container that was started anew there is one."""
        series: dict[Labels, float] = {}
        for key, number in self.containers.items():
            labels = (*self.names.get(key, ("", *key[:2])), key[2])
            series[labels] = series.get(labels, 0) + number
        return series

    def _revive(self, page: Plain) -> None:
        if page.get("form") != FORM:
            return
        known = Samples()
        known.numbers = {name: series for name, series in page["numbers"].items() if name in BY_NAME}
        known.buckets = {name: series for name, series in page["buckets"].items() if name in BY_NAME}
        self.samples.update(known)
        self.containers = dict(page["containers"])
        self.names = dict(page["names"])
        self.facts = page["facts"]

    def _start(self, event: Plain) -> None:
        report = event["report"]
        self.facts = {
            "kernel": report["kernel"],
            "psi": report["psi"],
            "mrelease": report["calls"]["process_mrelease"],
            "reaper": report["reaper"],
            "shield": {
                "memory_locked": report["locked"],
                "spared_by_kernel": report["shielded"],
                "realtime": report["realtime"],
            },
            "dry_run": event["dry_run"],
            "time": event["time"],
        }

    def _decision(self, event: Plain) -> None:
        decision, times = event["decision"], event["times"]
        self.samples.add("oomd_decisions_total", 1, ruleset_label(decision["ruleset"]), decision["action"])
        for verdict, number in event["candidates"].items():
            self.samples.add("oomd_candidates_total", number, verdict)
        if times["signalled_us"] is not None:
            self._signalled(times["wake_us"], times["signalled_us"])
        elif decision["action"] in ("term", "kill") and not event["dry_run"]:
            self._woke[event["id"]] = times["wake_us"]
            if len(self._woke) > MOST_PENDING:
                self._woke.pop(next(iter(self._woke)))

    def _escalation(self, event: Plain) -> None:
        self.samples.add("oomd_escalations_total", 1)
        self._woke.pop(event["id"], None)  # its outcome tells of another signal than the first

    def _signalled(self, woke_us: int, signalled_us: int) -> None:
        self.samples.observe("oomd_detection_to_signal_seconds", max(0, signalled_us - woke_us) * _MICRO)

    def _step(self, event: Plain) -> None:
        ruleset, action = ruleset_label(event["ruleset"]), event["action"]
        self.samples.add("oomd_steps_total", 1, ruleset, action, "dry_run" if event["dry_run"] else event["status"])
        self.samples.add("oomd_step_taken_bytes_total", event["taken_bytes"], ruleset, action)

    def _outcome(self, event: Plain) -> None:
        woke_us = self._woke.pop(event["id"], None)
        if woke_us is not None and event["signalled_us"] is not None:
            self._signalled(woke_us, event["signalled_us"])
        dry_run = event["status"] == "dry_run"
        if event["ruleset"] is None and not dry_run:
            self.samples.add("oomd_kills_by_others_total", 1)
            return
        ruleset, signal = ruleset_label(event["ruleset"]), event["signal"] or "none"
        self.samples.add("oomd_kills_total", 1, ruleset, event["status"], signal)
        if dry_run:
            return
        self.samples.put("oomd_kill_last_timestamp_seconds", event["time"])
        self.samples.add("oomd_kill_expected_bytes_total", event["expected_bytes"], ruleset)
        self.samples.add("oomd_kill_returned_bytes_total", event["returned_bytes"], ruleset)
        for name in ("signal_to_death", "signal_to_memory"):
            if event[f"{name}_us"] is not None:
                self.samples.observe(f"oomd_{name}_seconds", event[f"{name}_us"] * _MICRO, signal)
        self._reap(event["reap"])
        if event["status"] in ("killed", "exited") and ("pod" in event or "container" in event):
            self._container(event)

    def _reap(self, reap: Plain) -> None:
        if reap["duration_us"] is not None and reap["backend"] not in ("", "none"):
            result = RESULTS.get(reap["errno"], "failed")
            self.samples.observe("oomd_reap_duration_seconds", reap["duration_us"] * _MICRO, reap["backend"], result)

    def _container(self, event: Plain) -> None:
        key = tuple(clean(event.get(name, "")) for name in ("pod", "container", "qos"))
        self.containers[key] = self.containers.pop(key, 0) + 1
        if len(self.containers) > MOST_CONTAINERS:
            oldest = next(iter(self.containers))
            self.containers.pop(oldest)
            self.names.pop(oldest, None)

    def _hastened(self, event: Plain) -> None:
        self.samples.add("oomd_hastened_exits_total", 1 + event["untold"])
        self._reap(event["reap"])

    def _reload(self, event: Plain) -> None:
        self.samples.add("oomd_config_reloads_total", 1, "taken" if event["ok"] else "refused")
        self.samples.put("oomd_config_last_reload_successful", bool(event["ok"]))
        if event["ok"]:
            self.samples.put("oomd_config_last_reload_success_timestamp_seconds", event["time"])


def ruleset_label(name: str | None) -> str:
    """How a ruleset is called in labels."""
    if name is None:
        return "none"
    return UNITS if name.startswith(SYSTEMD) else name
