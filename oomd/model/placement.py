"""Where a cgroup's path places a process: unit, container, pod. Read off the path; nothing is asked of anybody.

Only what the system's own manager has named is believed: below a user's manager (``user@1000.service``) that user makes
cgroups of any name, and what is inside of a service or a container is that one's own affair.
"""

from __future__ import annotations

from oomd.model.values import dataclass

GUARANTEED = "guaranteed"
BURSTABLE = "burstable"
BEST_EFFORT = "besteffort"

_RUNTIMES = ("docker-", "cri-containerd-", "crio-", "libpod-", "containerd-", "podman-")
"""Beginnings of the scopes that container runtimes make under systemd; the container's id follows."""
_CONTAINER_PARENTS = ("docker", "lxc", "lxc.payload", "actions_job", "libpod_parent")
"""Cgroups in which runtimes without systemd make one per container."""
_ID_SIGNS = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Placement:
    """What the path says; empty for what it does not say."""

    units: tuple[str, ...] = ()
    """Slices, and the service or scope, of the system's manager."""
    user_units: tuple[str, ...] = ()
    """Below a user's manager: whatever that user calls them."""
    container: str = ""
    """Its id."""
    pod: str = ""
    """Its uid, with dashes."""
    qos: str = ""
    """Kubernetes' class of the pod: ``guaranteed``, ``burstable`` or ``besteffort``."""
    is_system: bool = False
    """Run by the system's manager itself as a service, not in a container, and for no user."""


_NOWHERE = Placement()
_MOST = 1024
_known: dict[str, Placement] = {}


def placement_of(cgroup: str) -> Placement:
    """The placement of ``/system.slice/nginx.service``, ``/kubepods/burstable/pod…/…`` and the like."""
    placement = _known.get(cgroup)
    if placement is None:
        if len(_known) >= _MOST:
            _known.clear()
        placement = _known[cgroup] = _read(cgroup)
    return placement


def unit_path(cgroup: str) -> str:
    """The cgroup of the service or scope that this one is, or lies in: the system's manager's, or that of a user's
    manager below its own; empty where no unit but slices holds it.
    """
    names = [name for name in cgroup.split("/") if name]
    found = 0
    for place, name in enumerate(names, 1):
        if name.endswith((".service", ".scope")):
            found = place
            if not (name.startswith("user@") and name.endswith(".service")):
                break
        elif not name.endswith(".slice"):
            break
    return "/" + "/".join(names[:found]) if found else ""


def _read(cgroup: str) -> Placement:
    names = [name for name in cgroup.split("/") if name]
    if not names:
        return _NOWHERE
    units, user_units = _units(names)
    pod, qos = _pod(names)
    container = _container(names, in_pod=bool(pod))
    service = bool(units) and units[-1].endswith(".service") and not units[-1].startswith("user@")
    is_system = not container and not pod and (names[0] == "init.scope" or (names[0] == "system.slice" and service))
    return Placement(units, user_units, container, pod, qos, is_system)


def _units(names: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Slices down to the first service or scope; what is below belongs to that one, or to a user's manager."""
    for place, name in enumerate(names):
        if name.endswith((".service", ".scope")):
            below = names[place + 1 :] if name.startswith("user@") and name.endswith(".service") else []
            users = tuple(each for each in below if each.endswith((".service", ".scope", ".slice")))
            return tuple(names[: place + 1]), users
        if not name.endswith(".slice"):
            return tuple(names[:place]), ()
    return tuple(names), ()


def _pod(names: list[str]) -> tuple[str, str]:
    """kubelet's tree: ``kubepods[.slice]/[besteffort|burstable]/pod<uid>``; guaranteed pods have no level of their
    own. The systemd driver repeats the parents in each name and has ``_`` for ``-`` in the uid.
    """
    if names[0] not in ("kubepods", "kubepods.slice", "kubelet.slice", "kubelet"):
        return "", ""
    for name in names[1:]:
        plain = name.removesuffix(".slice").removeprefix("kubelet-").removeprefix("kubepods-")
        if plain in (BEST_EFFORT, BURSTABLE, "kubepods"):
            continue
        qos, _, rest = plain.rpartition("-pod")
        uid = rest if qos in (BEST_EFFORT, BURSTABLE) else plain.removeprefix("pod")
        if uid == plain:
            return "", ""
        return uid.replace("_", "-"), _qos(names, name)
    return "", ""


def _qos(names: list[str], pod: str) -> str:
    above = names[: names.index(pod) + 1]
    for qos in (BEST_EFFORT, BURSTABLE):
        if any(name == qos or f"-{qos}" in name for name in above):
            return qos
    return GUARANTEED


def _container(names: list[str], *, in_pod: bool) -> str:
    for place, name in enumerate(names):
        for runtime in _RUNTIMES:
            inner = name.removesuffix(".scope").removeprefix(runtime)
            if name.endswith(".scope") and name.startswith(runtime) and _is_id(inner):
                return inner
        if place and names[place - 1] in _CONTAINER_PARENTS:
            return name
        if name.startswith("lxc.payload."):
            return name.removeprefix("lxc.payload.")
        if name == "machine.slice" and place + 1 < len(names):
            return names[place + 1].removesuffix(".scope").removesuffix(".service")
    # kubelet's other driver: the id alone, and below it whatever the container makes for itself.
    return next((name for name in names if _is_id(name)), "") if in_pod else ""


def _is_id(text: str) -> bool:
    return len(text) >= 12 and set(text) <= _ID_SIGNS
