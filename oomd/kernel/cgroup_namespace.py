"""Where we stand in the machine's tree of cgroups, when we are in a cgroup namespace; cgroup_namespaces(7).

There the kernel calls our own cgroup ``/`` and everybody else's ``/../../kubepods/…``: of such a path nothing can be
told. Where the whole tree is mounted all the same (a container that is given the host's /sys/fs/cgroup) we can find
ourselves in it, and then call every cgroup by its own name.
"""

from __future__ import annotations

import os

INITIAL_INODE = 0xEFFFFFFB
"""Of /proc/PID/ns/cgroup in the machine's first namespace; PROC_CGROUP_INIT_INO in include/linux/proc_ns.h."""
MOST_GROUPS = 50_000
"""A tree with more cgroups is not searched to its end."""

_root: tuple[str, ...] = ()


def enter_namespace(root: str) -> None:
    """From now on the cgroup that the kernel calls ``/`` is this one; empty for the machine's own root. Once, at the
    start of a process.
    """
    global _root  # noqa: PLW0603 - it holds for the whole process, as the namespace does
    _root = tuple(part for part in root.split("/") if part)


def namespace_root() -> str:
    """What :func:`enter_namespace` was told."""
    return "/" + "/".join(_root) if _root else ""


def absolute_path(path: str) -> str:
    """The cgroup's own name, of what the kernel calls it here."""
    if not _root:
        return path
    parts = [part for part in path.split("/") if part]
    climbed = 0
    while climbed < len(parts) and parts[climbed] == "..":
        climbed += 1
    if climbed > len(_root):
        return path  # further up than we know
    return "/" + "/".join((*_root[: len(_root) - climbed], *parts[climbed:]))


def find_namespace_root(cgroup_root: str) -> str:
    """What the kernel calls ``/`` for us, in the tree that is mounted at ``cgroup_root``; empty where that is its top,
    or we are not to be found in it.
    """
    try:
        if os.stat("/proc/self/ns/cgroup").st_ino == INITIAL_INODE:
            return ""
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            called = [line[3:].rstrip("\n") for line in file if line.startswith("0::")]
    except OSError:
        return ""
    found = _search(cgroup_root, os.getpid()) if called else None
    if found is None:
        return ""
    own = called[0].rstrip("/")
    return found.removesuffix(own).rstrip("/") if found.endswith(own) else ""


def is_beyond(path: str) -> bool:
    """Whether this is a cgroup outside of our namespace whose name is not known."""
    return path.startswith("/..")


def _search(top: str, pid: int) -> str | None:
    """The cgroup that holds this process, by looking into every one."""
    for number, (folder, _, files) in enumerate(os.walk(top)):
        if number >= MOST_GROUPS:
            return None
        if "cgroup.procs" not in files:
            continue
        try:
            with open(f"{folder}/cgroup.procs", "rb") as file:
                if b"%d" % pid in file.read().split():
                    return folder[len(top.rstrip("/")) :] or "/"
        except OSError:
            continue
    return None
