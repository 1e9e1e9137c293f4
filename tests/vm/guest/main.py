"""The first program of the guest: does what /job/job.json says and leaves its results in /job/out."""

import json
import sys
import time
import traceback

sys.path.insert(0, "/job")

from tests.vm.guest import machine


def main() -> None:
    """One boot, one job."""
    booted = time.clock_gettime(time.CLOCK_BOOTTIME)
    with open("/job/job.json", encoding="utf-8") as file:
        job = json.load(file)
    try:
        if job["kind"] == "scenario":
            from tests.vm.guest.scenario import play

            play(job)
        elif job["kind"] == "unit":
            from tests.vm.guest.unitchecks import check

            check(job)
        elif job["kind"] == "groups":
            from tests.vm.guest.groupchecks import check_groups

            check_groups(job)
        elif job["kind"] == "ladders":
            from tests.vm.guest.ladderchecks import check_ladders

            check_ladders(job)
        elif job["kind"] == "lmkd":
            from tests.vm.guest.lmkdchecks import check_lmkd

            check_lmkd(job)
        elif job["kind"] == "managed":
            from tests.vm.guest.managedchecks import check_managed

            check_managed(job)
        elif job["kind"] == "kubernetes":
            from tests.vm.guest.nodechecks import check_kubernetes

            check_kubernetes(job)
        elif job["kind"] == "suite":
            from tests.vm.guest.suite import run_suite

            run_suite(job)
    except Exception:  # noqa: BLE001 - whatever it is, the host must hear of it
        machine.save("failure", traceback.format_exc())
    machine.save("done", f"{booted:.3f}")


if __name__ == "__main__":
    main()
