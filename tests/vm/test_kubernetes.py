"""oomd as a DaemonSet's container on a node with kubelet's cgroups: it kills a pod's container by the node's rules,
with the privileges that configs/kubernetes/ lists and no more; and each of them is needed for what is said there.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.vm import kubernetes
from tests.vm.runs import check_kubernetes

if TYPE_CHECKING:
    from tests.vm.image import Image

pytestmark = [pytest.mark.vm, pytest.mark.vm_long, pytest.mark.timeout(900)]
NUMBERS = {"KILL": 5, "IPC_LOCK": 14, "SYS_PTRACE": 19, "SYS_NICE": 23, "SYS_RESOURCE": 24}
"""include/uapi/linux/capability.h."""
SPEC = kubernetes.specification()
EVERYBODY = {
    driver: [f"{name}-{driver[0]}{number}" for name in kubernetes.CLASSES for number in (1, 2)]
    for driver in kubernetes.DRIVERS
}


def mask(names: list[str]) -> str:
    """These capabilities as /proc/PID/status shows them."""
    return f"{sum(1 << NUMBERS[name] for name in names):016x}"


@pytest.fixture(scope="module")
def facts(image: Image) -> dict[str, Any]:
    """One boot."""
    run = check_kubernetes(image)
    assert "failure" not in run.out, run.out["failure"].decode()
    assert run.ended == "poweroff", (run.ended, run.console[-3000:])
    return dict(json.loads(run.out["kubernetes.json"]))


@pytest.mark.parametrize("driver", kubernetes.DRIVERS)
def test_privileges_are_those_that_are_listed(facts: dict[str, Any], driver: str) -> None:
    """The capabilities, and none can be gained; a root that cannot be written, and of the host's folders only the
    cgroups; namespaces of its own but for processes. With them nothing is lost.
    """
    seen = facts["drivers"][driver]["seen"]
    assert {seen[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {mask(SPEC["capabilities"])}
    assert (seen["CapInh"], seen["CapAmb"], seen["NoNewPrivs"]) == (mask([]), mask([]), "1")
    assert seen["own"] == ["cgroup", "ipc", "mnt", "net", "uts"]
    for mount in SPEC["mounts"]:
        assert seen["mounts"][mount["path"]] == ("ro" if mount["read_only"] else "rw"), mount
    assert seen["mounts"]["/"] == "ro"
    writable = {path for path, mode in seen["mounts"].items() if mode == "rw"} - {"/proc", "/dev"}
    assert {path for path in writable if not path.startswith("/proc/")} == {"/run/oomd", "/sys/fs/cgroup"}
    start = facts["drivers"][driver]["start"]
    assert "report" in start, start
    assert start["report"]["lost"] == [], start["report"]
    assert (start["report"]["locked"], start["report"]["shielded"], start["report"]["realtime"]) == (True, True, True)


@pytest.mark.parametrize("driver", kubernetes.DRIVERS)
def test_containers_go_by_class_and_as_a_whole(facts: dict[str, Any], driver: str) -> None:
    """The best-effort pod first, then the burstable one above its request, with everybody in the container; nobody
    else, whatever his size; and who is dead is not killed again although his cgroup is still there.
    """
    played = facts["drivers"][driver]
    left = set(EVERYBODY[driver])
    assert set(played["quiet"]["alive"]) == left
    decisions = [each for each in played["decisions"] if each["decision"]["target"] is not None]
    for step, name in zip(played["steps"], kubernetes.ORDER, strict=True):
        left -= {f"{name}-{driver[0]}{number}" for number in (1, 2)}
        assert set(step["alive"]) == left, (step, played["decisions"])
    assert len(decisions) >= len(kubernetes.ORDER)
    killed = [each["decision"]["target"]["name"] for each in decisions]
    paths = [kubernetes.path_of(name, kubernetes.CLASSES[name][0], driver) for name in kubernetes.ORDER]
    assert sorted(set(killed), key=killed.index) == paths
    assert set(paths) <= set(played["groups"])
    for words in ("Out of memory", "invoked oom-killer"):
        assert words not in facts["kernel"], facts["kernel"][-3000:]


@pytest.mark.parametrize("driver", kubernetes.DRIVERS)
def test_records_name_pod_and_container(facts: dict[str, Any], driver: str) -> None:
    """By uid, id and class, and as people know them."""
    first = next(each for each in facts["drivers"][driver]["decisions"] if each["decision"]["target"] is not None)
    target = first["decision"]["target"]
    assert (target["kind"], target["qos"]) == ("cgroup", "besteffort")
    names = (target["namespace"], target["pod_name"], target["container_name"])
    assert names == ("lab", "batch-pod", "batch"), target
    assert target["pod"] in kubernetes.pods(driver)[0]["log"]
    assert target["container"] in kubernetes.pods(driver)[0]["container_log"]


@pytest.mark.parametrize("driver", kubernetes.DRIVERS)
def test_what_is_no_shortage_of_the_node(facts: dict[str, Any], driver: str) -> None:
    """A pod that reads again and again what its own limit takes from it, and one that waits for the disk, live, and so
    does everybody else.
    """
    played = facts["drivers"][driver]
    assert played["quiet"]["lives"] == [True, True]
    assert "total=0\n" not in played["pressure"]["io"], "nobody waited for the disk"
    assert int(dict(line.split() for line in played["limited"].splitlines())["max"]) > 0, "nobody was at his limit"


def test_without_kill(facts: dict[str, Any]) -> None:
    """A kill of somebody who is not root fails, and that is said, at the start and then."""
    without = facts["without"]["KILL"]
    assert any(text.startswith("no CAP_KILL") for text in without["start"]["report"]["lost"])
    assert set(without["alive"]) == {"batch-s1v", "batch-s2v"}
    refused = [each["why"] for each in without["refused"]] + [each["status"] for each in without["outcomes"]]
    assert any("not permitted" in each or "not_permitted" in each or "may not" in each for each in refused), without


@pytest.mark.parametrize(
    ("missing", "lost", "missed"),
    [
        ("SYS_PTRACE", "no CAP_SYS_PTRACE", ""),
        ("SYS_NICE", "no real-time priority (CAP_SYS_NICE)", "realtime"),
        ("IPC_LOCK", "memory is not locked (CAP_IPC_LOCK)", "locked"),
        ("SYS_RESOURCE", "no CAP_SYS_RESOURCE", "shielded"),
    ],
)
def test_without_another(facts: dict[str, Any], missing: str, lost: str, missed: str) -> None:
    """It runs, and says what it cannot do; everything else is as it was."""
    without = facts["without"][missing]
    assert without["seen"]["CapEff"] == mask([name for name in SPEC["capabilities"] if name != missing])
    report = without["start"]["report"]
    assert any(text.startswith(lost) for text in report["lost"]), report
    for name in ("realtime", "locked", "shielded"):
        assert report[name] == (name != missed), report
