"""pidfds of real children."""

from __future__ import annotations

import os
import threading

import pytest

from oomd.kernel.pidfd import find_readable, is_readable, open_pidfd
from tests.kernel.children import DEAD_LEADER, HOLD_32_MIB, WAIT, child, go_on, said


def test_life_of_a_process() -> None:
    """F11: alive it is not readable, dead it is, also after it was reaped; afterwards the pid opens no more."""
    with child(HOLD_32_MIB) as process:
        said(process)
        pidfd = open_pidfd(process.pid)
        assert pidfd is not None
        try:
            assert not os.get_inheritable(pidfd)
            assert not is_readable(pidfd)
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert is_readable(pidfd)
            zombie = open_pidfd(process.pid)
            assert zombie is not None
            os.close(zombie)
            process.wait()
            assert is_readable(pidfd)
            assert open_pidfd(process.pid) is None
        finally:
            os.close(pidfd)


def test_the_dead_among_several() -> None:
    """One look at all of them finds who has ended, reaped or not; none of none."""
    with child(HOLD_32_MIB) as living, child(HOLD_32_MIB) as dead, child(HOLD_32_MIB) as gone:
        for process in (living, dead, gone):
            said(process)
        pidfds = [os.pidfd_open(process.pid) for process in (living, dead, gone)]
        try:
            assert find_readable(pidfds) == set()
            for process in (dead, gone):
                process.kill()
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            gone.wait()
            assert find_readable(pidfds) == set(pidfds[1:])
            assert find_readable([]) == set()
        finally:
            for pidfd in pidfds:
                os.close(pidfd)


def test_dead_leader() -> None:
    """F15: a process whose main thread ended is not dead while another thread lives."""
    with child(DEAD_LEADER) as process:
        said(process)
        pidfd = open_pidfd(process.pid)
        assert pidfd is not None
        try:
            assert not is_readable(pidfd)
            go_on(process)
            process.wait()
            assert is_readable(pidfd)
        finally:
            os.close(pidfd)


def test_thread_that_becomes_the_process() -> None:
    """A thread beside the first that calls execve takes over its pid: it was never readable before the real end."""
    code = f"""
import os, sys, threading
print(flush=True)
threading.Thread(target=lambda: os.execv(sys.executable, [sys.executable, "-c", {WAIT!r}])).start()
threading.Event().wait()
"""
    with child(code) as process:
        pidfd = open_pidfd(process.pid)
        assert pidfd is not None
        try:
            said(process)
            said(process)  # by what the thread has become
            assert not is_readable(pidfd)
            process.kill()
            process.wait()
            assert is_readable(pidfd)
        finally:
            os.close(pidfd)


def test_thread_that_leads_no_process() -> None:
    """The id of a thread is no process: None, as for ids that cannot be."""
    waiting, ended = threading.Event(), threading.Event()

    def wait() -> None:
        waiting.set()
        ended.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        waiting.wait()
        assert thread.native_id is not None
        assert open_pidfd(thread.native_id) is None
        assert open_pidfd(0) is None
    finally:
        ended.set()
        thread.join()


def test_closed_descriptor() -> None:
    """A descriptor that is not open is EBADF, never "dead"."""
    pidfd = open_pidfd(os.getpid())
    assert pidfd is not None
    os.close(pidfd)
    with pytest.raises(OSError, match="descriptor"):
        is_readable(pidfd)


@pytest.mark.parametrize("pid", [0, -1, -(1 << 31), 1 << 22])
def test_ids_that_no_process_has(pid: int) -> None:
    """None, as for a process that has ended; 2²² is above every pid_max."""
    assert open_pidfd(pid) is None


def test_other_errors() -> None:
    """F19: an error that does not mean absence is not hidden: here, no descriptor is left."""
    code = """
import os, resource
from oomd.kernel.pidfd import open_pidfd
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
try:
    open_pidfd(os.getpid())
except OSError as error:
    print(error.errno, flush=True)
"""
    with child(code) as process:
        assert said(process) == b"24"
