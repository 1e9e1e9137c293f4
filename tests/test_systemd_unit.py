"""The unit file: valid, and its filter allows every system call on the way to a kill."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oomd.commands.run import default_runtime_dir
from tests.integration.harness import Guarded
from tests.integration.test_run import tell, tree

UNDER_FILTER = str(Path(__file__).parent / "integration" / "under_filter.py")
UNIT = Path(__file__).parents[1] / "systemd" / "oomd.service"
DROP_IN = UNIT.with_name("oomd-every-exit.conf")
KILL_PATH = [
    "clock_gettime",
    "clone",
    "clone3",
    "dup",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "eventfd2",
    "execve",
    "exit_group",
    "flock",
    "fstat",
    "futex",
    "getdents64",
    "kill",
    "memfd_create",
    "mlockall",
    "mmap",
    "munmap",
    "openat",
    "pidfd_open",
    "pidfd_send_signal",
    "pipe2",
    "prctl",
    "pread64",
    "preadv",
    "process_mrelease",
    "read",
    "readlinkat",
    "rt_sigaction",
    "rt_sigprocmask",
    "sched_setparam",
    "sched_setscheduler",
    "sendto",
    "setpriority",
    "socketpair",
    "vfork",
    "wait4",
    "write",
]


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    """``systemd-analyze verify`` is silent about the unit with real paths."""
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None, "the package systemd brings systemd-analyze"
    unit = tmp_path / "oomd.service"
    unit.write_text(
        UNIT.read_text(encoding="utf-8").replace("@BIN@", "/usr/bin").replace("@CONFIG@", "/etc/oomd"), encoding="utf-8"
    )
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_finds_nothing_wrong_with_lmkd(tmp_path: Path) -> None:
    """Nor about service and socket of lmkd together; the socket is what clients of the original expect."""
    for name in ("oomd-lmkd.service", "oomd-lmkd.socket"):
        text = UNIT.with_name(name).read_text(encoding="utf-8")
        text = text.replace("@BIN@", "/usr/bin").replace("@CONFIG@", "/etc/oomd")
        (tmp_path / name).write_text(text, encoding="utf-8")
    env = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    command = ["systemd-analyze", "verify", *(str(path) for path in sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    socket = (tmp_path / "oomd-lmkd.socket").read_text(encoding="utf-8")
    assert "\nListenSequentialPacket=/dev/socket/lmkd\n" in socket
    assert "\nSocketMode=0660\n" in socket


def test_lmkd_differs_only_where_it_must() -> None:
    """Its service is that of oomd with one capability, its descriptors and its socket more: the filter, under which a
    kill is tried above, is the same.
    """
    plain, lmkd = (
        set(UNIT.with_name(name).read_text(encoding="utf-8").splitlines()) for name in (UNIT.name, "oomd-lmkd.service")
    )
    changed = {line.partition("=")[0] for line in plain ^ lmkd if "=" in line and not line.startswith("#")}
    assert changed == {
        "Description",
        "Conflicts",
        "Requires",
        "After",
        "ExecStart",
        "ExecStopPost",
        "RuntimeDirectory",
        "RuntimeDirectoryPreserve",
        "LimitNOFILE",
        "CapabilityBoundingSet",
    }
    assert {"accept4", "listen", "recvmsg", "sendto", "getsockname"} <= filtered_calls()[0]


def test_systemd_finds_nothing_wrong_with_takeover(tmp_path: Path) -> None:
    """Nor about service and socket in the place of systemd-oomd's; the socket is what users' managers know."""
    for name in ("systemd-oomd.service", "systemd-oomd.socket"):
        text = UNIT.with_name(name).read_text(encoding="utf-8")
        text = text.replace("@BIN@", "/usr/bin").replace("@CONFIG@", "/etc/oomd")
        (tmp_path / name).write_text(text, encoding="utf-8")
    env = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    command = ["systemd-analyze", "verify", *(str(path) for path in sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    socket = (tmp_path / "systemd-oomd.socket").read_text(encoding="utf-8")
    assert "\nListenStream=/run/systemd/oom/io.systemd.ManagedOOM\n" in socket
    assert "\nSocketMode=0666\n" in socket


def test_takeover_differs_only_where_it_must() -> None:
    """Its service is that of oomd with one capability and its socket more, and waits for nothing in system.slice; the
    filter is the same.
    """
    plain, takeover = (
        set(UNIT.with_name(name).read_text(encoding="utf-8").splitlines())
        for name in (UNIT.name, "systemd-oomd.service")
    )
    changed = {line.partition("=")[0] for line in plain ^ takeover if "=" in line and not line.startswith("#")}
    dependencies = {"Conflicts", "Requires", "After", "Before", "DefaultDependencies"}
    assert changed - dependencies == {
        "Description",
        "Documentation",
        "ExecStartPre",
        "ExecStart",
        "CapabilityBoundingSet",
        "PrivateTmp",
    }
    assert {line for line in takeover if line.startswith("After=")} == {"After=systemd-oomd.socket"}


def test_what_must_be_put_back_is_in_the_runtime_directory() -> None:
    """The manager looks where the killer writes, and keeps that folder while it starts it anew; a plain stop removes
    it, or systemd-oomd would never run again.
    """
    for name in (UNIT.name, "systemd-oomd.service"):
        unit = UNIT.with_name(name).read_text(encoding="utf-8")
        assert "\nRuntimeDirectory=oomd\n" in unit
        assert "\nRuntimeDirectoryPreserve=restart\n" in unit
        (command,) = re.findall(r"^ExecStopPost=-@BIN@/(.+)$", unit, re.MULTILINE)
        assert command == f"python3 -m oomd.debts {default_runtime_dir() if os.geteuid() == 0 else '/run/oomd'}"


@pytest.mark.parametrize("name", ["oomd", "systemd-oomd"])
def test_systemd_finds_nothing_wrong_with_metrics(tmp_path: Path, name: str) -> None:
    """Nor about the socket of metrics, for which the service loses none of its walls; in the place of systemd-oomd it
    belongs to that service, as ``make takeover`` lays it.
    """
    socket = UNIT.with_name("oomd-metrics.socket").read_text(encoding="utf-8")
    if name != "oomd":
        socket = re.sub(r"(?m)^(PartOf|Service|WantedBy)=oomd", r"\1=systemd-oomd", socket)
        makefile = (UNIT.parents[1] / "Makefile").read_text(encoding="utf-8")
        assert r"'/^\(PartOf\|Service\|WantedBy\)=/s/=oomd/=systemd-oomd/'" in makefile
    assert socket.count(f"={name}.service\n") == 3
    (tmp_path / "oomd-metrics.socket").write_text(socket, encoding="utf-8")
    for path in UNIT.parent.glob(f"{name}.s*"):
        text = path.read_text(encoding="utf-8").replace("@BIN@", "/usr/bin").replace("@CONFIG@", "/etc/oomd")
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    env = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    command = ["systemd-analyze", "verify", *(str(path) for path in sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert {"accept4", "recvfrom", "sendto", "shutdown", "poll"} <= filtered_calls()[0]


def test_drop_in_for_the_textfile_permits_one_folder() -> None:
    """And nothing else."""
    drop_in = UNIT.with_name("oomd-textfile.conf").read_text(encoding="utf-8")
    given = [line for line in drop_in.splitlines() if "=" in line and not line.startswith("#")]
    assert given == ["ReadWritePaths=-/var/lib/prometheus/node-exporter"]


def test_drop_in_for_every_exit_weakens_nothing_else(tmp_path: Path) -> None:
    """systemd finds nothing wrong with it; it gives no capability and no system call, only the instances of tracefs."""
    drop_in = DROP_IN.read_text(encoding="utf-8")
    given = [line for line in drop_in.splitlines() if "=" in line and not line.startswith("#")]
    assert given == [
        "Wants=sys-kernel-tracing.mount",
        "After=sys-kernel-tracing.mount",
        "ReadWritePaths=-/sys/kernel/tracing/instances",
    ]
    unit = tmp_path / "oomd.service"
    text = UNIT.read_text(encoding="utf-8").replace("@BIN@", "/usr/bin").replace("@CONFIG@", "/etc/oomd")
    unit.write_text(text, encoding="utf-8")
    (tmp_path / "oomd.service.d").mkdir()
    (tmp_path / "oomd.service.d" / "every-exit.conf").write_text(drop_in, encoding="utf-8")
    command = ["systemd-analyze", "verify", str(unit)]
    env = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_filter_allows_the_way_to_a_kill() -> None:
    """F14: others were killed by their own filter at their first kill; here every call of ours is allowed."""
    allowed, denied = filtered_calls()
    assert [call for call in KILL_PATH if call not in allowed] == []
    assert [call for call in KILL_PATH if call in denied] == []


def test_kill_happens_beneath_the_filter(tmp_path: Path) -> None:
    """F14: start, TERM, KILL, reap, reload, stop of a real daemon with the unit's calls and capabilities: any other
    call would end it at once.
    """
    allowed, denied = filtered_calls()
    beneath = [sys.executable, UNDER_FILTER, ",".join(sorted(allowed - denied)), ",".join(sorted(capabilities()))]
    with tree() as root:
        options = ["--scope", f"tree:{root.pid}", "--budget", "256MiB", "--log-format", "json"]
        argv = [*beneath, sys.executable, "-m", "oomd", "run", *options, "--runtime-dir", str(tmp_path / "run")]
        with Guarded(argv) as run:
            report = run.wait_event("start")["report"]
            assert os.geteuid() != 0 or set(report["capabilities"]) <= capabilities()
            tell(root, "stubborn leaker 400")
            outcome = run.wait_event("outcome")
            assert (outcome["comm"], outcome["status"]) == ("leaker", "killed")
            assert not report["calls"]["process_mrelease"] or outcome["reap"]["errno"] in (0, errno.ESRCH)
            run.process.send_signal(signal.SIGHUP)
            assert run.wait_event("reload")["ok"]
            run.process.send_signal(signal.SIGTERM)
            assert run.wait_end() == 0
            assert run.of("stop")


def test_filter_of_that_test_is_deadly() -> None:
    """Beneath a filter that lacks a call of ours the same start is the end: the test above would notice."""
    allowed, denied = filtered_calls()
    calls = ",".join(sorted(allowed - denied - {"epoll_create1"}))
    argv = [sys.executable, UNDER_FILTER, calls, "", sys.executable, "-c", "import select; select.epoll()"]
    assert subprocess.run(argv, check=False, timeout=120).returncode == -signal.SIGSYS


@pytest.mark.parametrize("name", ["mount", "reboot", "init_module", "ptrace", "swapon", "bpf", "kexec_load"])
def test_filter_allows_nothing_that_is_not_needed(name: str) -> None:
    """What a killer never does is refused."""
    allowed, denied = filtered_calls()
    assert name not in allowed or name in denied


def capabilities() -> set[str]:
    """The capabilities that the unit leaves."""
    (line,) = re.findall(r"(?m)^CapabilityBoundingSet=(.*)$", UNIT.read_text(encoding="utf-8"))
    return set(line.split())


def filtered_calls() -> tuple[set[str], set[str]]:
    """Every system call that the unit's filter names, allowed and taken away, with its groups expanded by systemd."""
    groups = expand_groups()
    allowed: set[str] = set()
    denied: set[str] = set()
    for line in re.findall(r"(?m)^SystemCallFilter=(.*)$", UNIT.read_text(encoding="utf-8")):
        target = denied if line.startswith("~") else allowed
        for word in line.lstrip("~").split():
            target |= members(word, groups)
    return allowed, denied


def members(word: str, groups: dict[str, set[str]]) -> set[str]:
    """A call, or the calls of a group and of the groups in it."""
    if not word.startswith("@"):
        return {word}
    return set().union(*(members(inner, groups) for inner in groups[word]))


def expand_groups() -> dict[str, set[str]]:
    """The groups as systemd on this machine has them."""
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter"], capture_output=True, text=True, timeout=120, check=True
    )
    groups: dict[str, set[str]] = {}
    group = ""
    for line in done.stdout.splitlines():
        text = re.sub(r"\x1b\[[0-9;]*m", "", line)
        if text.startswith("@"):
            group = text.strip()
            groups[group] = set()
        elif text.startswith("    ") and group and not text.strip().startswith("#"):
            groups[group].add(text.strip())
    return groups


def test_no_login_stops_oomd() -> None:
    """Units that want systemd-oomd must not stop oomd by a conflict; its drop-in looks at oomd's runtime directory."""
    unit = UNIT.read_text(encoding="utf-8")
    assert "systemd-oomd" not in " ".join(re.findall(r"^Conflicts=.*$", unit, re.MULTILINE))
    (directory,) = re.findall(r"^RuntimeDirectory=(.+)$", unit, re.MULTILINE)
    gives_way = UNIT.with_name("systemd-oomd-gives-way.conf").read_text(encoding="utf-8")
    assert f"\nConditionPathExists=!/run/{directory}\n" in gives_way
