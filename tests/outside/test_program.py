"""One run of a hook: what it gets, how it ends, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import time
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pytest

from oomd.kernel.process import parse_stat
from oomd.kernel.syscalls import IOPRIO_CLASS_BE, ioprio_set_thread
from oomd.outside.hooks import wait_all
from oomd.outside.program import IO_LEVEL, MOST_OUTPUT, MOST_VALUE, Program, Result, environment_of
from tests.descriptors import open_descriptors, opened_since

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 90.0
IDLE = 3
"""The class of who reads and writes only when nobody else does."""
FACTS = {"event": "decision", "id": "3", "nested": {"list": [1, None]}}


def run(folder: Path, script: str, patience_s: float = PATIENCE_S, **environment: str) -> Result:
    """What came of a shell script of the test."""
    path = folder / "hook"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return run_program([str(path), "an argument"], patience_s, **environment)


def run_program(argv: list[str], patience_s: float = PATIENCE_S, **environment: str) -> Result:
    """What came of a program."""
    program = Program(argv, FACTS, environment, patience_s)
    program.start()
    wait_all([program], Event())
    assert program.result is not None
    assert program.fds() == []
    return program.result


def is_gone(pid: int) -> bool:
    """Whether this process has ended."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_bytes()).state in "ZX"
    except FileNotFoundError:
        return True


def wait_for(what: Callable[[], object]) -> None:
    """Until it is so."""
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_facts_go_in(tmp_path: Path) -> None:
    """As JSON on its standard input, and one variable each; nothing of our own environment."""
    out = tmp_path / "out"
    result = run(tmp_path, f'cat > {out}; env > {out}.env; echo "$1" $PWD', OOMD_REASON="low on memory")
    assert (result.status, result.exit_status, result.text) == ("done", 0, "an argument /")
    assert json.loads(out.read_text()) == FACTS
    variables = {line.split("=")[0] for line in Path(f"{out}.env").read_text().splitlines()}
    assert variables - {"PWD", "_", "SHLVL", "OLDPWD"} == {"PATH", "LANG", "OOMD_REASON"}
    assert "OOMD_REASON=low on memory\n" in Path(f"{out}.env").read_text()


def test_how_it_ends_is_told(tmp_path: Path) -> None:
    """An exit status, a signal, and what it said."""
    failed = run(tmp_path, "echo no >&2; exit 7")
    assert (failed.status, failed.exit_status, failed.signal, failed.text) == ("failed", 7, None, "no")
    killed = run(tmp_path, "kill -TERM $$")
    assert (killed.status, killed.exit_status, killed.signal) == ("failed", None, signal.SIGTERM)


def test_it_is_killed_at_its_deadline(tmp_path: Path) -> None:
    """With all that it has started; nobody waits for what ignores everything."""
    pids = tmp_path / "pids"
    script = (
        f"trap '' TERM INT HUP; sh -c 'echo $$ >> {pids}; sleep 1000' & echo $$ >> {pids}; while :; do sleep 1; done"
    )
    program = Program(["/bin/sh", "-c", script], FACTS, {}, PATIENCE_S)
    program.start()
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    program.end_s = time.monotonic()
    wait_all([program], Event())
    assert program.result is not None
    assert (program.result.status, program.result.exit_status) == ("late", None)
    wait_for(lambda: all(is_gone(int(pid)) for pid in pids.read_text().split()))  # killed a moment ago


def test_whoever_it_left_behind_is_killed(tmp_path: Path) -> None:
    """Its first process has ended, one that it started goes on and holds the output open: that is waited for by
    nobody.
    """
    result = run(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/pid")
    assert result.status == "done"
    wait_for(lambda: is_gone(int((tmp_path / "pid").read_text())))


def test_flood_of_words_is_cut(tmp_path: Path) -> None:
    """What it says beyond the beginning is read and dropped, so that it is not held up."""
    result = run(
        tmp_path, "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done"
    )
    assert result.status == "done"
    assert MOST_OUTPUT - 2 <= len(result.text) <= MOST_OUTPUT


def test_flood_without_end_ends_at_the_deadline(tmp_path: Path) -> None:
    """However fast it writes: reading has an end, too, and so has the rest of what was read."""
    assert run(tmp_path, "cat /dev/zero & cat /dev/zero & cat /dev/zero", 0.3).status == "late"
    program = Program(["/bin/true"], {}, {}, PATIENCE_S)
    program._output_fd = os.open("/dev/zero", os.O_RDONLY)
    program._drain()
    assert program._output == bytes(MOST_OUTPUT)
    os.close(program._output_fd)


@pytest.mark.parametrize("argv", [["/absent"], ["/etc/passwd"], ["/"]])
def test_what_cannot_be_started_is_told(argv: list[str]) -> None:
    """There is no such program, or it is none."""
    before = open_descriptors()
    result = run_program(argv)
    assert result.status == "not_started"
    assert result.text
    assert opened_since(before) == []


def test_it_has_no_privilege_of_ours(tmp_path: Path) -> None:
    """The kernel may kill it (a hook of the test waits until that is so), signals have their usual effect, and no
    descriptor of ours is open in it.
    """
    signal.signal(signal.SIGHUP, lambda *_: None)
    secret = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        script = "grep -E 'SigIgn|SigBlk' /proc/self/status; ls /proc/self/fd"
        adjusted = "until grep -qx 0 /proc/self/oom_score_adj; do sleep 0.01; done"
        result = run(tmp_path, f"{adjusted}; {script}")
    finally:
        os.close(secret)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    words = result.text.split()
    ignored = int(words[words.index("SigIgn:") + 1], 16)
    assert not ignored & (1 << (signal.SIGHUP - 1) | 1 << (signal.SIGTERM - 1))
    assert int(words[words.index("SigBlk:") + 1], 16) == 0
    assert str(secret) not in words[words.index("SigIgn:") + 2 :]


def test_it_stands_behind_others_at_the_disk(tmp_path: Path) -> None:
    """The unit's own class, real-time, is not its; here it is another one that is not."""
    ioprio_set_thread(0, IDLE, 0)
    try:
        result = run(tmp_path, "until ionice -p $$ | grep best; do sleep 0.01; done")
    finally:
        ioprio_set_thread(0, IOPRIO_CLASS_BE, IO_LEVEL)
    assert (result.status, result.text) == ("done", "best-effort: prio 4")


def test_nothing_is_left_open(tmp_path: Path) -> None:
    """Neither by one that ends nor by one that is killed."""
    before = open_descriptors()
    for script, patience_s in (("exit 0", PATIENCE_S), ("sleep 1000", 0.05)):
        run(tmp_path, script, patience_s)
    assert opened_since(before) == []


@pytest.mark.parametrize("left", range(5))
def test_no_descriptor_is_left(left: int) -> None:
    """Neither is that raised in the thread that runs hooks, nor is anything left behind."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 16, hard))
    program, taken = Program(["/bin/true"], {}, {}, PATIENCE_S), []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        for _ in range(left):
            os.close(taken.pop())
        program.start()
        taken += [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(left)]
        with pytest.raises(OSError, match="Too many open files"):
            os.open("/dev/null", os.O_RDONLY)
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert program.result is not None
    assert program.result.status == "not_started"
    assert "Too many open files" in program.result.text


def test_variables_can_hold_anything() -> None:
    """A name of a process may hold any sign but zero; a variable has an end."""
    values = environment_of({"OOMD_A": "x\0y\udcff€", "OOMD_B": "z" * 100_000})
    assert values[b"OOMD_A"] == "xy\\udcff€".encode()
    assert len(values[b"OOMD_B"]) == MOST_VALUE
