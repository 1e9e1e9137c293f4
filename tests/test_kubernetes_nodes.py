"""The shipped rules for a Kubernetes node on kubelet's cgroups, named by either driver: traces, replayed by the real
readers and the real engine; nobody is signalled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oomd.__main__ import main
from tests.fakes.cgroup_tree import CgroupTree
from tests.fakes.proc_tree import GIB, MIB, ProcTree

if TYPE_CHECKING:
    from collections.abc import Sequence

RULES = str(Path(__file__).parents[1] / "configs" / "kubernetes.yaml")
DRIVERS = ("systemd", "cgroupfs", "kind")
"""kind's nodes have systemd's driver below a cgroup of their own (kubelet's --cgroup-root=/kubelet)."""
CAPACITY = 32 * GIB
LOW, CALM = 256 * MIB, 8 * GIB


@dataclass(frozen=True)
class Container:
    """One container of a pod of its own, with its processes' sizes."""

    name: str
    qos: str
    sizes: tuple[int, ...]
    request: int = 0
    """Bytes that a burstable one has asked for."""
    critical: bool = False
    """system-node-critical."""
    limit: int | None = None
    stall_us: int = 0
    group: bool = True
    """memory.oom.group, as kubelet sets it unless singleProcessOOMKill says otherwise."""

    @property
    def uid(self) -> str:
        """Of its pod: one that its name makes."""
        return f"{self.name.encode().hex():0>8}-1234-1234-1234-123456789abc"

    @property
    def id(self) -> str:
        """Of the container."""
        return f"{self.name.encode().hex():0>64}"

    @property
    def adj(self) -> int:
        """The oom_score_adj that kubelet gives."""
        if self.critical or self.qos == "guaranteed":
            return -997
        if self.qos == "besteffort":
            return 1000
        return min(max(2, 1000 - 1000 * self.request // CAPACITY), 999)

    def pod(self, driver: str) -> str:
        """The pod's cgroup."""
        level = "" if self.qos == "guaranteed" else self.qos
        if driver == "cgroupfs":
            return "/".join(part for part in ("/kubepods", level, f"pod{self.uid}") if part)
        own, top = ("/kubelet.slice", "kubelet-kubepods") if driver == "kind" else ("", "kubepods")
        above = f"{own}/{top}.slice" + (f"/{top}-{level}.slice" if level else "")
        return f"{above}/{top}-{level + '-' if level else ''}pod{self.uid.replace('-', '_')}.slice"

    def path(self, driver: str) -> str:
        """The container's cgroup."""
        return f"{self.pod(driver)}/{self.id if driver == 'cgroupfs' else f'cri-containerd-{self.id}.scope'}"


KUBELET = Container("kubelet", "", (200 * MIB,))
GUARANTEED = Container("bank", "guaranteed", (20 * GIB,), limit=24 * GIB)
FRUGAL = Container("shop", "burstable", (2 * GIB,), request=4 * GIB)
GREEDY = Container("crawl", "burstable", (GIB, 500 * MIB), request=GIB)
BATCH = Container("batch", "besteffort", (300 * MIB, 100 * MIB, 50 * MIB))
CRITICAL = Container("cni", "besteffort", (3 * GIB,), critical=True)
NODE = (GUARANTEED, FRUGAL, GREEDY, BATCH, CRITICAL)


def write(folder: Path, driver: str, containers: Sequence[Container], *, available: int, stall_us: int) -> None:
    """The node at one step."""
    proc, cgroups = ProcTree(folder / "proc"), CgroupTree(folder / "cgroup")
    proc.set_meminfo(total=CAPACITY, available=available, anon=CAPACITY - 9 * GIB)
    proc.set_pressure(stall_us, stall_us)
    proc.add_process(1, comm="systemd")
    cgroups.add_group("/system.slice/kubelet.service", anon=KUBELET.sizes[0], pids=(50,))
    cgroups.add_group("/system.slice/cron.service", anon=GIB, pids=(51,))
    proc.add_process(
        50, comm="kubelet", rss_anon=KUBELET.sizes[0], cgroup="/system.slice/kubelet.service", oom_score_adj=-999
    )
    proc.add_process(51, comm="cron", rss_anon=GIB, cgroup="/system.slice/cron.service")
    pid = 100
    for each in containers:
        pids = tuple(range(pid, pid + len(each.sizes)))
        pid += 10
        for number, size in zip(pids, each.sizes, strict=True):
            proc.add_process(number, comm=each.name, rss_anon=size, cgroup=each.path(driver), oom_score_adj=each.adj)
        values: dict[str, Any] = {"anon": sum(each.sizes), "limit": each.limit, "some_us": each.stall_us}
        cgroups.add_group(each.pod(driver), **values)
        cgroups.add_group(each.path(driver), **values, pids=pids, oom_group=each.group)


def replay(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was decided at each step."""
    assert main(["replay", "--json", "--config", RULES, str(folder)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def short_of_memory(
    folder: Path, capsys: pytest.CaptureFixture[str], driver: str, containers: Sequence[Container]
) -> dict[str, Any]:
    """The answer when hardly anything is available."""
    write(folder / "0", driver, containers, available=LOW, stall_us=0)
    return replay(folder, capsys)[0]


@pytest.mark.parametrize("driver", DRIVERS)
def test_class_order(tmp_path: Path, capsys: pytest.CaptureFixture[str], driver: str) -> None:
    """Best-effort, above its request, below it, and only then guaranteed pods and the node's services, whatever their
    size; a node-critical pod and kubelet never.
    """
    left = list(NODE)
    for number, expected in enumerate((BATCH, GREEDY, FRUGAL)):
        answer = short_of_memory(tmp_path / f"{number}", capsys, driver, left)
        target = answer["decision"]["target"]
        assert (target["kind"], target["name"]) == ("cgroup", expected.path(driver))
        left.remove(expected)
    answer = short_of_memory(tmp_path / "last", capsys, driver, left)
    ranked = {each["name"] for each in answer["ranking"]}
    assert ranked == {GUARANTEED.path(driver), "/system.slice/cron.service"}
    assert CRITICAL.path(driver) not in ranked


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("group", [True, False])
def test_a_container_goes_as_a_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], driver: str, group: bool
) -> None:
    """memory.oom.group=1 is never taken apart, not even where it has cgroups of its own below; what is reported names
    pod, container and class.
    """
    write(tmp_path / "0", driver, (BATCH,), available=LOW, stall_us=0)
    cgroups = CgroupTree(tmp_path / "0/cgroup")
    cgroups.add_group(BATCH.path(driver), anon=sum(BATCH.sizes), pids=(101, 102), oom_group=group)
    inner = f"{BATCH.path(driver)}/inner"
    cgroups.add_group(inner, anon=BATCH.sizes[0], pids=(100,))
    (tmp_path / "0/proc/100/cgroup").write_text(f"0::{inner}\n")
    decision = replay(tmp_path, capsys)[0]["decision"]
    target = decision["target"]
    assert decision["pids"] == ([100, 101, 102] if group else [100])
    assert target["name"] == (BATCH.path(driver) if group else inner)
    assert (target["container"], target["pod"], target["qos"]) == (BATCH.id, BATCH.uid, "besteffort")


@pytest.mark.parametrize("driver", DRIVERS)
def test_pod_at_its_own_limit_is_no_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str], driver: str) -> None:
    """A pod that thrashes at its memory.max makes the node stall, and nobody goes; the same stall made by one without
    a limit is an alarm.
    """
    for name, limit in (("limited", 2 * GIB), ("unlimited", None)):
        for second in range(0, 8, 2):
            stall_us = second * 1_000_000
            thrashing = Container("thrash", "burstable", (2 * GIB,), GIB, limit=limit, stall_us=stall_us)
            folder = tmp_path / name / f"{second}"
            write(folder, driver, (thrashing, BATCH), available=GIB, stall_us=stall_us)
    actions = {
        name: {line["decision"]["action"] for line in replay(tmp_path / name, capsys)}
        for name in ("limited", "unlimited")
    }
    assert actions["limited"] == {"none"}
    assert actions["unlimited"] & {"term", "kill"}


@pytest.mark.parametrize("driver", DRIVERS)
def test_deleted_pod_is_not_killed_again(tmp_path: Path, capsys: pytest.CaptureFixture[str], driver: str) -> None:
    """A pod that is gone while its cgroup is still there, empty, is nobody; the next one goes."""
    write(tmp_path / "0", driver, (BATCH, GREEDY), available=LOW, stall_us=0)
    cgroups = CgroupTree(tmp_path / "0/cgroup")
    proc = tmp_path / "0/proc"
    for path in (BATCH.pod(driver), BATCH.path(driver)):
        cgroups.add_group(path, anon=sum(BATCH.sizes), populated=False)
    for pid in (100, 101, 102):
        for file in sorted((proc / f"{pid}").rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        (proc / f"{pid}").rmdir()
    assert replay(tmp_path, capsys)[0]["decision"]["target"]["name"] == GREEDY.path(driver)


@pytest.mark.parametrize("driver", DRIVERS)
def test_waiting_for_disks_is_no_alarm(tmp_path: Path, capsys: pytest.CaptureFixture[str], driver: str) -> None:
    """Pressure of I/O alone, and pressure while there is memory, are not for a killer."""
    for second in range(0, 8, 2):
        folder = tmp_path / f"{second}"
        busy = 0 if second < 4 else (second - 4) * 1_000_000  # then of memory, too, of which there is enough
        write(folder, driver, NODE, available=CALM, stall_us=busy)
        line = f"avg10=90.00 avg60=90.00 avg300=90.00 total={second * 1_000_000}"
        (folder / "proc/pressure/io").write_text(f"some {line}\nfull {line}\n")
    assert {each["decision"]["action"] for each in replay(tmp_path, capsys)} == {"none"}
