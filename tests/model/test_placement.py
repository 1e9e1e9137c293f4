"""Units, containers, pods and their classes, read off cgroup paths as systemd, runtimes and kubelet make them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.model.placement import Placement, placement_of, unit_path

ID = "0123456789ab" * 5
UID = "12345678_1234_1234_1234_123456789abc"
DASHED = UID.replace("_", "-")


@pytest.mark.parametrize(
    ("cgroup", "placement"),
    [
        ("", Placement()),
        ("/", Placement()),
        ("/init.scope", Placement(("init.scope",), is_system=True)),
        ("/system.slice/nginx.service", Placement(("system.slice", "nginx.service"), is_system=True)),
        ("/system.slice/nginx.service/worker/x.service", Placement(("system.slice", "nginx.service"), is_system=True)),
        ("/system.slice/run-u5.scope", Placement(("system.slice", "run-u5.scope"))),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service",
            Placement(("user.slice", "user-1000.slice", "user@1000.service"), ("app.slice", "nginx.service")),
        ),
        (
            "/user.slice/user-1000.slice/session-3.scope",
            Placement(("user.slice", "user-1000.slice", "session-3.scope")),
        ),
        (f"/system.slice/docker-{ID}.scope", Placement(("system.slice", f"docker-{ID}.scope"), container=ID)),
        (f"/docker/{ID}", Placement(container=ID)),
        ("/lxc.payload.web/system.slice/sshd.service", Placement(container="web")),
        ("/machine.slice/libvirt-5.scope", Placement(("machine.slice", "libvirt-5.scope"), container="libvirt-5")),
        ("/system.slice/docker-short.scope", Placement(("system.slice", "docker-short.scope"))),
        (f"/kubepods/besteffort/pod{DASHED}/{ID}", Placement((), (), ID, DASHED, "besteffort")),
        (f"/kubepods/pod{DASHED}/{ID}", Placement((), (), ID, DASHED, "guaranteed")),
        (f"/kubepods/burstable/pod{DASHED}/{ID}/a/{ID[::-1]}", Placement((), (), ID, DASHED, "burstable")),
        (f"/kubepods/burstable/pod{DASHED}", Placement((), (), "", DASHED, "burstable")),
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID}.slice/cri-containerd-{ID}.scope",
            Placement(
                (
                    "kubepods.slice",
                    "kubepods-burstable.slice",
                    f"kubepods-burstable-pod{UID}.slice",
                    f"cri-containerd-{ID}.scope",
                ),
                (),
                ID,
                DASHED,
                "burstable",
            ),
        ),
        (
            f"/kubepods.slice/kubepods-pod{UID}.slice/crio-{ID}.scope",
            Placement(("kubepods.slice", f"kubepods-pod{UID}.slice", f"crio-{ID}.scope"), (), ID, DASHED, "guaranteed"),
        ),
        ("/kubepods.slice", Placement(("kubepods.slice",))),
        ("/user.slice/kubepods/besteffort/podx", Placement(("user.slice",))),
    ],
)
def test_paths(cgroup: str, placement: Placement) -> None:
    """What each says, and nothing that a user or a container made up itself."""
    assert placement_of(cgroup) == placement


@given(st.text("/kubepods.sliceburtabl-pod_x0123456789user@", max_size=60))
def test_any_path(cgroup: str) -> None:
    """Whatever the path, there is an answer, and a pod always has a class."""
    placement = placement_of(cgroup)
    assert bool(placement.pod) <= bool(placement.qos)
    assert not (placement.is_system and (placement.pod or placement.container))


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("", ""),
        ("/", ""),
        ("/system.slice", ""),
        ("/system.slice/nginx.service", "/system.slice/nginx.service"),
        ("/system.slice/nginx.service/worker/x.service", "/system.slice/nginx.service"),
        ("/work.slice/work-a.slice/run-u5.scope", "/work.slice/work-a.slice/run-u5.scope"),
        ("/user.slice/user-1000.slice/session-3.scope", "/user.slice/user-1000.slice/session-3.scope"),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-a.scope/inner",
            "/user.slice/user-1000.slice/user@1000.service/app.slice/app-a.scope",
        ),
        (
            "/user.slice/user-1000.slice/user@1000.service/app.slice",
            "/user.slice/user-1000.slice/user@1000.service",
        ),
        ("/kubepods/besteffort/podx/abc", ""),
        ("/docker/abc.service", ""),
    ],
)
def test_unit_path(cgroup: str, unit: str) -> None:
    """Down to the service or scope that a manager made, the user's manager's own units included; not a step further."""
    assert unit_path(cgroup) == unit
