"""The first program of the guest: does what /job/job.json says and leaves its results in /job/out."""

import importlib
import json
import sys
import time
import traceback

sys.path.insert(0, "/job")

from tests.vm.guest import machine

JOBS = {
    "scenario": "scenario.play",
    "unit": "unitchecks.check",
    "groups": "groupchecks.check_groups",
    "ladders": "ladderchecks.check_ladders",
    "lmkd": "lmkdchecks.check_lmkd",
    "managed": "managedchecks.check_managed",
    "kubernetes": "nodechecks.check_kubernetes",
    "telling": "tellingchecks.check_telling",
    "suite": "suite.run_suite",
}
"""Module and function by the kind of job; only the one that is asked for is loaded."""


def main() -> None:
    """One boot, one job."""
    booted = time.clock_gettime(time.CLOCK_BOOTTIME)
    with open("/job/job.json", encoding="utf-8") as file:
        job = json.load(file)
    try:
        module, _, function = JOBS[job["kind"]].partition(".")
        getattr(importlib.import_module(f"tests.vm.guest.{module}"), function)(job)
    except Exception:  # noqa: BLE001 - whatever it is, the host must hear of it
        machine.save("failure", traceback.format_exc())
    machine.save("done", f"{booted:.3f}")


if __name__ == "__main__":
    main()
