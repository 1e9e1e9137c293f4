"""The project's own integration tests, where what the host may lack is there: control group v2, swap, real limits."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.vm.guest import machine

if TYPE_CHECKING:
    from typing import Any


def run_suite(job: dict[str, Any]) -> None:
    """pytest over /job/tree with the installed oomd; its output and exit status are the result."""
    machine.set_up_swap(job["swap"], job["swap_mib"])
    machine.install_oomd(job["site"])
    machine.write("/proc/self/oom_score_adj", "0")
    command = ["/opt/oomd/bin/python3", "-m", "pytest", "-p", "no:cacheprovider", *job["arguments"]]
    with open("/job/out/pytest", "wb") as file:
        done = subprocess.run(command, cwd="/job/tree", stdout=file, stderr=subprocess.STDOUT, check=False)
    machine.save("exit", str(done.returncode))
