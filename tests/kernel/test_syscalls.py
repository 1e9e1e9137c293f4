"""System calls, on children that the test itself started."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oomd.kernel import syscalls
from oomd.kernel.features import read_capabilities
from oomd.kernel.files import find_kib
from oomd.kernel.maps import parse_anonymous
from oomd.kernel.pidfd import is_readable, open_pidfd
from oomd.kernel.syscalls import (
    MADV_PAGEOUT,
    pidfd_send_signal,
    process_madvise,
    process_mrelease,
    seteuid_of_thread,
)
from tests.kernel.children import DEAD_LEADER, HOLD_32_MIB, Child, child, said

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@contextlib.contextmanager
def victim() -> Iterator[tuple[Child, int]]:
    """A child that holds 32 MiB, and its pidfd."""
    with child(HOLD_32_MIB) as process:
        said(process)
        pidfd = open_pidfd(process.pid)
        assert pidfd is not None
        try:
            yield process, pidfd
        finally:
            os.close(pidfd)


def error_of(call: object, *arguments: object) -> int | None:
    """The errno that a call raises, if the words of the error fit it; 0 when it succeeds."""
    assert callable(call)
    try:
        call(*arguments)
    except OSError as error:
        return error.errno if error.strerror == os.strerror(error.errno or 0) else None
    return 0


# --- process_mrelease: mm/mrelease_test.c of the kernel's selftests, and its manual page


def test_mrelease_of_what_is_no_pidfd() -> None:
    """Descriptor -1 and one of a regular file are EBADF."""
    assert error_of(process_mrelease, -1) == errno.EBADF
    with Path(__file__).open("rb") as file:
        assert error_of(process_mrelease, file.fileno()) == errno.EBADF


@pytest.mark.parametrize("flags", [1 << 31, (1 << 32) - 1])
def test_mrelease_with_unknown_flags(flags: int) -> None:
    """Unknown flags are EINVAL, before anything else is looked at; a living process is as it was."""
    assert error_of(process_mrelease, -1, flags) == errno.EINVAL
    with victim() as (process, pidfd):
        assert error_of(process_mrelease, pidfd, flags) == errno.EINVAL
        assert process.poll() is None


def test_mrelease_of_a_directory_of_proc() -> None:
    """/proc/PID, which takes signals as a pidfd does, is EBADF to release, dying or not."""
    with victim() as (process, pidfd):
        directory = os.open(f"/proc/{process.pid}", os.O_RDONLY | os.O_DIRECTORY)
        try:
            assert error_of(pidfd_send_signal, directory, 0) == 0
            assert error_of(process_mrelease, directory) == errno.EBADF
            pidfd_send_signal(pidfd, signal.SIGKILL)
            assert error_of(process_mrelease, directory) == errno.EBADF
        finally:
            os.close(directory)


def test_mrelease_of_oneself() -> None:
    """Whoever calls is not dying: EINVAL."""
    pidfd = open_pidfd(os.getpid())
    assert pidfd is not None
    assert error_of(process_mrelease, pidfd) == errno.EINVAL
    os.close(pidfd)


def test_mrelease_of_the_living() -> None:
    """A process that is not dying is EINVAL, and nothing happens to it."""
    with victim() as (process, pidfd):
        assert error_of(process_mrelease, pidfd) == errno.EINVAL
        assert process.poll() is None


def test_mrelease_of_the_dying() -> None:
    """After SIGKILL it succeeds, or the victim was quicker (ESRCH); after its end, and after it was reaped,
    it is ESRCH.
    """
    with victim() as (process, pidfd):
        pidfd_send_signal(pidfd, signal.SIGKILL)
        assert error_of(process_mrelease, pidfd) in (0, errno.ESRCH)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_readable(pidfd)
        assert error_of(process_mrelease, pidfd) == errno.ESRCH
        assert process.wait() == -signal.SIGKILL
        assert error_of(process_mrelease, pidfd) == errno.ESRCH


# --- pidfd_send_signal


def test_signals() -> None:
    """F11: a signal reaches the process, a zombie takes it without effect, and after reaping it is ESRCH,
    whoever has the pid.
    """
    with victim() as (process, pidfd):
        pidfd_send_signal(pidfd, 0)
        pidfd_send_signal(pidfd, signal.SIGTERM)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        pidfd_send_signal(pidfd, signal.SIGKILL)
        assert process.wait() == -signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            pidfd_send_signal(pidfd, 0)


def test_signal_errors() -> None:
    """Descriptor -1 and one of a regular file are EBADF, an unknown signal EINVAL, and the error says so in words."""
    assert error_of(pidfd_send_signal, -1, 0) == errno.EBADF
    with Path(__file__).open("rb") as file:
        assert error_of(pidfd_send_signal, file.fileno(), 0) == errno.EBADF
    with victim() as (process, pidfd):
        assert error_of(pidfd_send_signal, pidfd, 1000) == errno.EINVAL
        assert process.poll() is None


def test_signal_says_who_sent_it() -> None:
    """As kill(2): from a user, by our pid and user; LTP has the same case with a siginfo of the sender's, which oomd
    never gives.
    """
    code = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
print(flush=True)
info = signal.sigwaitinfo({signal.SIGUSR1})
print(info.si_signo, info.si_code, info.si_pid, info.si_uid, flush=True)
"""
    with child(code) as process:
        said(process)
        pidfd = open_pidfd(process.pid)
        assert pidfd is not None
        pidfd_send_signal(pidfd, signal.SIGUSR1)
        os.close(pidfd)
        si_user = 0
        expected = (int(signal.SIGUSR1), si_user, os.getpid(), os.getuid())
        assert tuple(int(word) for word in said(process).split()) == expected


def test_signal_ends_every_thread() -> None:
    """SIGKILL by a pidfd is for the whole process, also where its main thread has ended."""
    with child(DEAD_LEADER) as process:
        said(process)
        pidfd = open_pidfd(process.pid)
        assert pidfd is not None
        pidfd_send_signal(pidfd, signal.SIGKILL)
        assert process.wait(90) == -signal.SIGKILL
        assert is_readable(pidfd)
        os.close(pidfd)


def test_signal_that_is_not_permitted() -> None:
    """A user's process may not ask after the first process: PermissionError (signal 0, nothing is sent)."""
    pidfd = open_pidfd(1)
    assert pidfd is not None
    user = os.geteuid()
    code = "import os; from oomd.kernel.syscalls import pidfd_send_signal\n"
    code += "from oomd.kernel.pidfd import open_pidfd\n"
    code += "pidfd = open_pidfd(1)\n"
    code += "if os.getuid() == 0: os.setresuid(65534, 65534, 65534)\n"
    code += "try:\n pidfd_send_signal(pidfd, 0)\nexcept PermissionError:\n print('denied', flush=True)\n"
    os.close(pidfd)
    with child(code) as process:
        assert said(process) == b"denied"
    assert os.geteuid() == user


def test_the_signal_holds_the_gil_and_the_release_drops_it() -> None:
    """Between kill and release no other thread may run; during the release, which may last, all others may."""
    python_api = 0x4  # FUNCFLAG_PYTHONAPI of Modules/_ctypes/ctypes.h
    assert type(syscalls._send_signal)._flags_ & python_api
    assert not type(syscalls._mrelease)._flags_ & python_api
    assert type(syscalls._holding).__name__ == ctypes.PyDLL.__name__
    assert syscalls._mrelease is not syscalls._send_signal


# --- prctl and mlockall, each in a child of its own


def answers(code: str) -> bytes:
    """The first line that a child prints which knows our system calls."""
    with child(f"import os, signal\nfrom oomd.kernel.syscalls import *\n{code}") as process:
        return said(process)


def test_subreaper() -> None:
    """Orphans become children of a subreaper."""
    code = """
before = prctl_get_child_subreaper()
prctl_set_child_subreaper()
if not os.fork():
    if not os.fork():
        signal.pause()
    os._exit(0)
os.wait()
orphan = int(open(f"/proc/self/task/{os.getpid()}/children").read().split()[0])
os.kill(orphan, signal.SIGKILL)
print(before, prctl_get_child_subreaper(), os.wait()[0] == orphan, flush=True)
"""
    assert answers(code) == b"False True True"


def test_name() -> None:
    """The name is the bytes that were given, cut to 15 of them."""
    code = r"""
prctl_set_name(b"a)\n\xff 0123456789abcdef")
print(open("/proc/self/comm", "rb").read(), flush=True)
"""
    assert answers(code) == rb"b'a)\n\xff 0123456789\n'"


def test_death_signal() -> None:
    """A process that asked for it is killed when the one that started it ends."""
    code = """
if not os.fork():
    prctl_set_pdeathsig(signal.SIGKILL)
    print(os.getpid(), flush=True)
    signal.pause()
signal.pause()
"""
    with child(f"import os, signal\nfrom oomd.kernel.syscalls import *\n{code}") as process:
        pidfd = open_pidfd(int(said(process)))
        assert pidfd is not None
        try:
            assert not is_readable(pidfd)
            process.kill()
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            assert poll.poll(90_000)
        finally:
            os.close(pidfd)


def test_lock() -> None:
    """With the capability the memory is locked as it is touched; without it the kernel's error comes
    through.
    """
    code = """
try:
    mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)
except OSError as error:
    print(error.errno, flush=True)
print(flush=True); input()
"""
    allowed = "CAP_IPC_LOCK" in read_capabilities(Path("/proc/self/status").read_bytes())
    with child(f"from oomd.kernel.syscalls import *\n{code}") as process:
        answer = said(process)
        if allowed:
            status = Path(f"/proc/{process.pid}/status").read_bytes()
            assert answer == b""
            assert find_kib(status, b"\nVmLck:", "status") > 0
        else:
            assert int(answer or 0) in (0, errno.EPERM, errno.ENOMEM)


def test_lock_with_unknown_flags() -> None:
    """Flags that do not exist are EINVAL, and nothing is locked."""
    assert error_of(syscalls.mlockall, 1 << 20) == errno.EINVAL


def test_untouched_again() -> None:
    """The library that is let go of is not resident any more, works all the same, and is then; what is no mapping of
    ours is no error.
    """
    code = """
import math
from oomd.kernel.maps import parse_code, read_maps
def resident():
    fields, ours = [], False
    for line in open("/proc/self/smaps"):
        if line[0] in "0123456789abcdef":
            ours = "/libm.so" in line and " r-xp " in line
        elif ours and line.startswith("Rss:"):
            fields.append(int(line.split()[1]))
    return fields
math.erf(0.5)
before = resident()
for begin, end in parse_code(read_maps(os.open("/proc", os.O_RDONLY), os.getpid()), b"libm.so"):
    unmap_pages(begin, end)
after = resident()
print(before > [0], after == [0] * len(after), math.erf(0.5) > 0.5 and resident() > [0], flush=True)
unmap_pages(4096, 8192)
"""
    assert answers(code) == b"True True True"


def test_mount_that_nobody_sees() -> None:
    """A file system is mounted in no place: its files can be opened below the descriptor, and no mount is told; without
    the right it is EPERM, and what the kernel does not have is ENODEV.
    """
    for kind, errors in (("tmpfs", {errno.EPERM}), ("no-such-kind", {errno.EPERM, errno.ENODEV})):
        try:
            mount = syscalls.mount_detached(kind)
        except OSError as error:
            allowed = errors
            number = error.errno
        else:
            assert kind == "tmpfs"
            os.mkdir("folder", dir_fd=mount)
            assert os.get_inheritable(mount) is False
            device = os.fstat(mount).st_dev
            assert f" {os.major(device)}:{os.minor(device)} " not in Path("/proc/self/mountinfo").read_text("utf-8")
            os.close(mount)
            continue
        assert number in allowed
        assert kind != "tmpfs" or os.geteuid() or "CAP_SYS_ADMIN" not in own_capabilities()


def own_capabilities() -> frozenset[str]:
    """What this process may."""
    return read_capabilities(Path("/proc/self/status").read_bytes())


# --- process_madvise(2)


def test_madvise_of_what_is_no_pidfd() -> None:
    """Descriptor -1 is EBADF; an advice that nobody knows is EINVAL, whoever it is for."""
    assert error_of(process_madvise, -1, [(4096, 4096)], MADV_PAGEOUT) == errno.EBADF
    with victim() as (_, pidfd):
        assert error_of(process_madvise, pidfd, [(4096, 4096)], 12345) == errno.EINVAL


def test_madvise_pages_out() -> None:
    """The advice is taken for another process's ranges; what of them is not mapped is ENOMEM."""
    with victim() as (process, pidfd):
        ranges = parse_anonymous(Path(f"/proc/{process.pid}/maps").read_bytes())[:1]
        assert ranges[0][1] >= 32 << 20
        assert process_madvise(pidfd, ranges, MADV_PAGEOUT) == ranges[0][1]
        assert error_of(process_madvise, pidfd, [(4096, 4096)], MADV_PAGEOUT) == errno.ENOMEM


# --- setresuid of one thread


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone may act as somebody else")
def test_one_thread_acts_as_a_user(tmp_path: Path) -> None:
    """It has that user's rights and none of ours, the others keep theirs, and the user may not signal it."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    seen: dict[str, object] = {}

    def act() -> None:
        seteuid_of_thread(NOBODY)
        seen["ids"] = os.getresuid()
        seen["open"] = error_of(os.open, str(secret), os.O_RDONLY)
        status = Path(f"/proc/self/task/{threading.get_native_id()}/status").read_bytes()
        seen["capabilities"] = read_capabilities(status)
        code = f"import os\ntry: os.kill({threading.get_native_id()}, 0)\nexcept PermissionError: print('refused')"
        command = ["/usr/bin/python3", "-c", code]
        seen["signal"] = subprocess.run(command, user=NOBODY, capture_output=True, check=False, cwd="/").stdout

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    assert seen["ids"] == (0, NOBODY, 0)
    assert seen["open"] == errno.EACCES
    assert seen["capabilities"] == frozenset()
    assert seen["signal"] == b"refused\n"
    assert os.getresuid() == (0, 0, 0)
    assert "x" in secret.read_text()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_nobody_else_may_act_as_a_user() -> None:
    """It asks for CAP_SETUID."""
    assert error_of(seteuid_of_thread, NOBODY) == errno.EPERM


def test_machine_without_a_known_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is called by a number of another machine."""
    monkeypatch.setattr(syscalls, "_MACHINE", "pdp11")
    assert error_of(seteuid_of_thread, NOBODY) == errno.ENOSYS
