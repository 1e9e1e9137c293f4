"""A Kubernetes node's pods, and oomd's own as configs/kubernetes/ describes it, as data for a guest."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from tests.vm.killers import TREE

FOLDER = TREE / "configs" / "kubernetes"
DRIVERS = ("systemd", "cgroupfs")
OWN_UID, OWN_ID = "0d0d0d0d-0000-4000-8000-000000000001", "0d" * 32
ORDER = ("batch", "crawl")
"""Whose leak comes when."""
CLASSES = {
    "batch": ("besteffort", 1000),
    "crawl": ("burstable", 950),
    "shop": ("burstable", 600),
    "bank": ("guaranteed", -997),
}
"""Class, and the oom_score_adj that kubelet gives: 950 has asked for 5 % of the node, 600 for 40 %."""


def _uid(name: str) -> str:
    return f"{name.encode().hex():0>8.8}-1234-4234-8234-123456789abc"


def _id(name: str) -> str:
    return f"{name.encode().hex():0>64}"


def path_of(name: str, qos: str, driver: str, *, uid: str = "", identity: str = "") -> str:
    """The cgroup of a pod's only container."""
    uid, identity = uid or _uid(name), identity or _id(name)
    level = "" if qos == "guaranteed" else qos
    if driver == "cgroupfs":
        return "/".join(part for part in ("/kubepods", level, f"pod{uid}", identity) if part)
    above = f"/kubepods.slice/kubepods-{level}.slice" if level else "/kubepods.slice"
    pod = f"kubepods-{level + '-' if level else ''}pod{uid.replace('-', '_')}.slice"
    return f"{above}/{pod}/cri-containerd-{identity}.scope"


def pods(driver: str) -> list[dict[str, Any]]:
    """The node's pods; the last process of each is a bystander in the same container."""
    found = []
    for name, (qos, adj) in CLASSES.items():
        go = f"go-{driver}-{name}"
        first = {"name": f"{name}-{driver[0]}1", "do": "leak", "begin_mib": 60, "rate_mib": 15, "wait_for": go}
        beside = {"name": f"{name}-{driver[0]}2", "do": "steady", "size_mib": 4, "wait_for": go}
        found.append(
            {
                "name": name,
                "path": path_of(name, qos, driver),
                "adj": adj,
                "settings": {"memory.oom.group": "1"},
                "log": f"lab_{name}-pod_{_uid(name)}",
                "container_log": f"{name}-pod_lab_{name}-{_id(name)}.log",
                "actors": [first, beside],
            }
        )
    return found


def limited(driver: str) -> dict[str, Any]:
    """A pod that thrashes at its own limit, and one beside it that waits for the disk."""
    return {
        "path": path_of("thrash", "burstable", driver),
        "beside": path_of("writer", "burstable", driver),
        "adj": 900,
        "settings": {"memory.max": "24M", "memory.oom.group": "1"},
    }


def specification() -> dict[str, Any]:
    """What the DaemonSet and the Containerfile say, for ``guest/container.py``."""
    pod = yaml.safe_load((FOLDER / "daemonset.yaml").read_text(encoding="utf-8"))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    context = container["securityContext"]
    (entry,) = re.findall(r"(?m)^ENTRYPOINT (.*)$", (TREE / "Containerfile").read_text(encoding="utf-8"))
    (environment,) = re.findall(r"(?m)^ENV (\w+)=(\S+)$", (TREE / "Containerfile").read_text(encoding="utf-8"))
    return {
        "command": [*json.loads(entry), *container["args"]],
        "environment": dict([environment]),
        "capabilities": context["capabilities"]["add"],
        "privilege_escalation": context["allowPrivilegeEscalation"],
        "read_only_root": context["readOnlyRootFilesystem"],
        "host_pid": pod["hostPID"],
        "memory_limit": container["resources"]["limits"]["memory"].removesuffix("i"),
        "oom_score_adj": -997,
        "mounts": [_mount(mount, pod["volumes"]) for mount in container["volumeMounts"]],
    }


def _mount(mount: dict[str, Any], volumes: list[dict[str, Any]]) -> dict[str, Any]:
    (volume,) = (each for each in volumes if each["name"] == mount["name"])
    files = {}
    if "configMap" in volume:
        files = yaml.safe_load((FOLDER / "configmap.yaml").read_text(encoding="utf-8"))["data"]
    return {
        "path": mount["mountPath"],
        "host": volume.get("hostPath", {}).get("path", ""),
        "size": volume.get("emptyDir", {}).get("sizeLimit", "").removesuffix("i"),
        "read_only": mount.get("readOnly", False),
        "files": files,
    }


def job(site: str) -> dict[str, Any]:
    """Everything for the guest. ``site``: where oomd's modules are in the image."""
    victim = pods("systemd")[0]
    victim["actors"] = [
        {**each, "name": f"{each['name']}v", "do": "steady", "size_mib": 40} for each in victim["actors"]
    ]
    return {
        "kind": "kubernetes",
        "site": site,
        "spec": {**specification(), "image": [site]},
        "own": path_of("oomd", "burstable", "systemd", uid=OWN_UID, identity=OWN_ID),
        "drivers": {driver: pods(driver) for driver in DRIVERS},
        "limited": {driver: limited(driver) for driver in DRIVERS},
        "order": list(ORDER),
        "victim": victim,
    }
