"""oomd in the place of Android's lmkd, on a real machine that runs out of memory."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.vm.runs import check_lmkd

if TYPE_CHECKING:
    from tests.vm.image import Image

pytestmark = [pytest.mark.vm, pytest.mark.vm_long, pytest.mark.timeout(900)]
ADJS = list(range(1000, -1, -100))
ELEVEN = [{"adj": adj, "start_mib": 8, "rate_mib": 4 + number} for number, adj in enumerate(ADJS)]
"""Those that are left grow faster, so that the last has filled the machine within seconds, too."""
LARGE = [{"adj": 900, "start_mib": 8, "rate_mib": 60}]


@pytest.fixture(scope="module")
def facts(image: Image) -> dict[str, Any]:
    """One boot."""
    run = check_lmkd(image, eleven=ELEVEN, large=LARGE, hung=LARGE)
    assert "failure" not in run.out, run.out["failure"].decode()
    assert run.ended == "poweroff", (run.ended, run.console[-3000:])
    return dict(json.loads(run.out["lmkd.json"]))


def test_registered_die_in_order_of_their_adj(facts: dict[str, Any]) -> None:
    """All eleven grow at once: the least important is killed first, the most important last, each by SIGKILL and with
    one Kill line, and the kernel has nothing to do.
    """
    eleven = facts["eleven"]
    assert eleven["written"] == {str(adj): str(adj) for adj in ADJS}, eleven
    # By the Kill lines: reaped as it is, who was killed first may run its last instructions after the next one.
    assert sorted(eleven["order"], reverse=True) == ADJS, (eleven, facts["journal"][-3000:])
    assert set(eleven["statuses"].values()) == {-9}
    shape = r"(?m)^\d\d-\d\d [\d:.]+ +\d+ +\d+ I lowmemorykiller: Kill '[^']*' \((\d+)\), uid "
    killed = [int(pid) for pid in re.findall(shape, facts["journal"])]
    assert killed[:11] == [eleven["pids"][str(adj)] for adj in ADJS]
    assert [notice[1] for notice in eleven["notices"]] == killed[:11]
    assert len(set(killed)) == len(killed)
    assert facts["counted"] == len(killed) == 12
    for words in ("Out of memory", "invoked oom-killer", "Killed process"):
        assert words not in facts["kernel"], facts["kernel"][-3000:]


def test_large_victim_is_reaped(facts: dict[str, Any]) -> None:
    """One that took most of the memory: its reap line appears."""
    pid = facts["large"]["pids"]["900"]
    (notice,) = facts["large"]["notices"]
    assert notice[1] == pid
    assert notice[3] > 150 << 10, notice
    assert re.search(rf"Process {pid} was reaped in \d+ms", facts["journal"]), facts["journal"][-3000:]


def test_watchdog_kills_while_the_killer_hangs(facts: dict[str, Any]) -> None:
    """Stopped, the killer does nothing; the registered one dies all the same, the kernel has nothing to do, and the
    killer that goes on counts it and tells subscribers.
    """
    hung = facts["hung"]
    assert hung["statuses"] == {"900": -9}, hung
    pid = hung["pids"]["900"]
    line = f"the watchdog killed process {pid}, oom_score_adj 900, while the killer hung"
    assert line in facts["journal"], facts["journal"][-3000:]
    assert re.search(rf"killinfo: \[{pid},10900,900,0,0,", facts["journal"])
    assert [notice[:3] for notice in hung["notices"]] == [[6, pid, 10900]]
    assert hung["counted"] == facts["counted"] + 1
    assert hung["same_pid"], "systemd's watchdog was quicker"
    for words in ("Out of memory", "invoked oom-killer", "Killed process"):
        assert words not in facts["kernel"], facts["kernel"][-3000:]
