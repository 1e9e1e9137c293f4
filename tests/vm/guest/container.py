"""A container by hand, as a runtime would make the DaemonSet's: own mounts, network, cgroup, IPC and host name, the
node's processes where ``hostPID`` says so, a read-only root, the capabilities that are listed and no others.

``container.py SPECIFICATION CGROUP``: becomes the container's first process.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ROOT = "/run/lab-container"
READ_ONLY = ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs", "/proc/sysrq-trigger")
"""What runtimes make read-only in every container."""
MASKED = ("/proc/kcore", "/proc/keys", "/proc/timer_list")
DEVICES = (("null", 1, 3), ("zero", 1, 5), ("random", 1, 8), ("urandom", 1, 9))


def main() -> None:
    """Outside: into the cgroup, then into the namespaces. Inside: mounts, rights, program."""
    text, cgroup = sys.argv[1], sys.argv[2]
    spec = json.loads(text)
    if cgroup:
        with open(f"/sys/fs/cgroup{cgroup}/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(spec["oom_score_adj"]))
        spaces = ["--mount", "--net", "--cgroup", "--ipc", "--uts"] + ([] if spec["host_pid"] else ["--pid", "--fork"])
        os.execvp("unshare", ["unshare", *spaces, sys.executable, "-I", "-S", __file__, text, ""])
    set_up(spec)
    for limit in (resource.RLIMIT_RTPRIO, resource.RLIMIT_NICE):  # as runtimes start containers
        resource.setrlimit(limit, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
    rights = ",".join(["-all", *(f"+{name.lower()}" for name in spec["capabilities"])])
    command = ["setpriv", f"--bounding-set={rights}", "--inh-caps=-all", "--ambient-caps=-all"]
    command += [] if spec["privilege_escalation"] else ["--no-new-privs"]
    os.chdir("/")
    os.execvpe("setpriv", [*command, *spec["command"]], {"PATH": os.environ["PATH"], **spec["environment"]})


def set_up(spec: dict[str, Any]) -> None:
    """The container's file systems; the old root is gone afterwards."""
    run("mount", "--make-rprivate", "/")
    os.makedirs(ROOT, exist_ok=True)
    run("mount", "--bind", "/", ROOT)
    for path in spec["image"]:
        run("mount", "--bind", path, ROOT + path)
    run("mount", "-t", "proc", "proc", f"{ROOT}/proc")
    run("mount", "-t", "sysfs", "-o", "ro", "sysfs", f"{ROOT}/sys")
    run("mount", "-t", "cgroup2", "-o", "ro", "cgroup2", f"{ROOT}/sys/fs/cgroup")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", f"{ROOT}/dev")
    for name, major, minor in DEVICES:
        os.mknod(f"{ROOT}/dev/{name}", 0o20666, os.makedev(major, minor))
    for mount in spec["mounts"]:
        add(mount)
    for path in READ_ONLY:
        run("mount", "--bind", ROOT + path, ROOT + path)
        run("mount", "-o", "remount,bind,ro", ROOT + path)
    for path in MASKED:
        if os.path.exists(path):
            run("mount", "--bind", f"{ROOT}/dev/null", ROOT + path)
    if spec["read_only_root"]:
        for path in ("", *spec["image"]):
            run("mount", "-o", "remount,bind,ro", ROOT + path)
    os.chdir(ROOT)
    run("pivot_root", ".", ".")
    run("umount", "-l", ".")


def add(mount: dict[str, Any]) -> None:
    """A volume: a folder of the host, an empty one in memory, or files."""
    path = ROOT + mount["path"]
    os.makedirs(path, exist_ok=True)  # of the image: it is not read-only yet
    if mount["host"]:
        run("mount", "--bind", mount["host"], path)
    else:
        run("mount", "-t", "tmpfs", "-o", f"size={mount['size'] or '1m'}", "tmpfs", path)
    for name, text in mount["files"].items():
        with open(f"{path}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    if mount["read_only"]:
        run("mount", "-o", "remount,bind,ro", path)


def run(*command: str) -> None:
    """It must succeed."""
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
