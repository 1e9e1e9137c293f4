"""System calls that Python does not offer, or not in the way that a kill needs. The only module that knows
ctypes.

Two ways into libc: ``PyDLL`` keeps the GIL, ``CDLL`` drops it. Between SIGKILL and process_mrelease every
microsecond counts, and after a call that dropped the GIL a busy second thread may keep it for 5 ms: so the
signal is sent with the GIL held. process_mrelease lasts hundreds of milliseconds and must let others run.
"""

from __future__ import annotations

import errno
import os
import sys
import time

from oomd.kernel.numbers import KCMP, SETRESUID, ioprio_number, number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable
    from typing import Any
else:
    from oomd.kernel import foreign as ctypes

_MACHINE = os.uname().machine
_MULTIARCH: str = getattr(sys.implementation, "_multiarch", "")
_POINTER_BYTES = ctypes.sizeof(ctypes.c_void_p)

_PIDFD_SEND_SIGNAL = number_of(424, _MACHINE, _POINTER_BYTES, _MULTIARCH)
_PROCESS_MADVISE = number_of(440, _MACHINE, _POINTER_BYTES, _MULTIARCH)
_PROCESS_MRELEASE = number_of(448, _MACHINE, _POINTER_BYTES, _MULTIARCH)
_FSOPEN = number_of(430, _MACHINE, _POINTER_BYTES, _MULTIARCH)
_FSCONFIG = number_of(431, _MACHINE, _POINTER_BYTES, _MULTIARCH)
_FSMOUNT = number_of(432, _MACHINE, _POINTER_BYTES, _MULTIARCH)

_CLOEXEC = 1
"""FSOPEN_CLOEXEC and FSMOUNT_CLOEXEC; include/uapi/linux/mount.h, as what follows."""
_FSCONFIG_CMD_CREATE = 6
_MOUNT_ATTR_NOSUID_NODEV_NOEXEC = 0x2 | 0x4 | 0x8

_IOPRIO_WHO_PROCESS = 1
_IOPRIO_CLASS_SHIFT = 13
IOPRIO_CLASS_BE = 2
"""Best effort, the class of those who asked for none; ioprio_set(2)."""

_KCMP_VM = 1

_KEEP = -1

_SHIFTED_MCL = _MACHINE == "alpha" or _MACHINE.startswith(("ppc", "sparc"))
MCL_CURRENT = 0x2000 if _SHIFTED_MCL else 1
"""Lock what is mapped now; mlockall(2)."""
MCL_FUTURE = 0x4000 if _SHIFTED_MCL else 2
"""Lock what will be mapped."""
MCL_ONFAULT = 0x8000 if _SHIFTED_MCL else 4
"""Lock pages when they are touched first, instead of touching them all now."""

MADV_PAGEOUT = 21
"""Take these pages now; madvise(2), Linux 5.4."""
MOST_RANGES = 1024
"""In one call; IOV_MAX."""

_MADV_DONTNEED = 4

_M_ARENA_MAX = -8
"""malloc.h of glibc."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37

_holding = ctypes.PyDLL(None, use_errno=True)
_dropping = ctypes.CDLL(None, use_errno=True)

# Subscription makes a new function object each time, so that each signature has its own; looking them up
# here keeps dlsym and the conversion of types out of the way of a kill.
_send_signal = _holding["syscall"]
_send_signal.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint)
_send_signal.restype = ctypes.c_long

_timerfd_create = _holding["timerfd_create"]
_timerfd_create.argtypes = (ctypes.c_int, ctypes.c_int)
_timerfd_create.restype = ctypes.c_int

_timerfd_settime = _holding["timerfd_settime"]
_timerfd_settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_timerfd_settime.restype = ctypes.c_int

_mrelease = _dropping["syscall"]
_mrelease.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_uint)
_mrelease.restype = ctypes.c_long

_madvise = _dropping["syscall"]
_madvise.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_uint)
_madvise.restype = ctypes.c_long

_ioprio = _dropping["syscall"]
_ioprio.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int)
_ioprio.restype = ctypes.c_long

_getcpu = _holding["sched_getcpu"]
_getcpu.argtypes = ()
_getcpu.restype = ctypes.c_int

_getdents: Any = None
try:
    _getdents = _holding["getdents64"]
    _getdents.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    _getdents.restype = ctypes.c_long
except AttributeError:  # glibc before 2.30
    pass
MOST_ENTRIES_BYTES = 4096
_entries = ctypes.create_string_buffer(b"\0" * (MOST_ENTRIES_BYTES - 1))
_entries_view = memoryview(_entries).cast("B")

_kcmp = _dropping["syscall"]
_kcmp.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong)
_kcmp.restype = ctypes.c_long

_ids = _holding["syscall"]
_ids.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_uint, ctypes.c_int)
_ids.restype = ctypes.c_long

_fsopen = _dropping["syscall"]
_fsopen.argtypes = (ctypes.c_long, ctypes.c_char_p, ctypes.c_uint)
_fsopen.restype = ctypes.c_long

_fsconfig = _dropping["syscall"]
_fsconfig.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)
_fsconfig.restype = ctypes.c_long

_fsmount = _dropping["syscall"]
_fsmount.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)
_fsmount.restype = ctypes.c_long

_prctl_number = _dropping["prctl"]
_prctl_number.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_prctl_number.restype = ctypes.c_int

_prctl_pointer = _dropping["prctl"]
_prctl_pointer.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_prctl_pointer.restype = ctypes.c_int

_mlockall = _dropping["mlockall"]
_mlockall.argtypes = (ctypes.c_int,)
_mlockall.restype = ctypes.c_int

_get_errno = ctypes.get_errno
_clock_ns = time.monotonic_ns


def _error() -> OSError:
    code = _get_errno()
    return OSError(code, os.strerror(code))


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """Sends a signal to the process behind ``pidfd``, holding the GIL; pidfd_send_signal(2).

    No flags, on purpose: since 6.9 they mean something (1 is PIDFD_SIGNAL_THREAD). Signal 0 only asks
    whether it may be signalled.

    Raises OSError: ESRCH once the process was reaped (a zombie takes signals), EPERM, EBADF, EINVAL (a
    process of another PID namespace, an unknown signal), ENOSYS.
    """
    if _send_signal(_PIDFD_SEND_SIGNAL, pidfd, signal, None, 0) < 0:
        raise _error()


HAS_TIMER = _POINTER_BYTES == 8
"""Where both numbers of a timespec are as wide as a long: whatever else 32-bit libcs have is left alone."""


class Timer:
    """Makes a descriptor readable at a set time from now on; timerfd_create(2). Python has it from 3.13 on."""

    def __init__(self) -> None:
        """Raises OSError: EMFILE, ENFILE, ENOMEM."""
        self.fd: int = _timerfd_create(time.CLOCK_MONOTONIC, os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            raise _error()
        self._after = (ctypes.c_long * 4)()  # struct itimerspec: no interval, the time
        self._address = ctypes.addressof(self._after)

    def start(self, after_us: int) -> None:
        """So long from now, not 0, and not as it was set before; holding the GIL. Cannot fail."""
        self._after[2], self._after[3] = after_us // 1_000_000, after_us % 1_000_000 * 1000
        _timerfd_settime(self.fd, 0, self._address, None)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


def process_mrelease(pidfd: int, flags: int = 0) -> None:
    """Frees the memory of a dying process in the caller's time, with the GIL dropped; process_mrelease(2),
    5.15 and later.

    May wait long for the lock of the victim's memory. Success may be repeated and does not mean that all
    came back.

    Raises OSError: ESRCH when the victim has left its memory already (which may still be on its way back),
    EINVAL when it is not dying, shares its memory with a process that is not dying, dumps core, or ``flags``
    are unknown (checked first), EAGAIN when a part could not be freed now, EBADF, EINTR, ENOSYS.
    """
    if _mrelease(_PROCESS_MRELEASE, pidfd, flags) < 0:
        raise _error()


def process_madvise(pidfd: int, ranges: list[tuple[int, int]], advice: int) -> int:
    """Advice about another process's memory, as (address, length) of whole pages; at most :data:`MOST_RANGES`. How many
    bytes of them were gone through, from the first on; process_madvise(2), 5.10 and later. With :data:`MADV_PAGEOUT`
    that lasts as long as the pages take to be written.

    Raises OSError: ESRCH, EPERM (it asks for CAP_SYS_NICE and what ptrace may read), EINVAL (an advice that is not for
    others), ENOMEM (unmapped meanwhile), EBADF, EINTR, ENOSYS.
    """
    vector = (ctypes.c_size_t * (2 * len(ranges)))(*(number for pair in ranges for number in pair))
    done: int = _madvise(_PROCESS_MADVISE, pidfd, ctypes.addressof(vector), len(ranges), advice, 0)
    if done < 0:
        raise _error()
    return done


def signal_and_release(pidfd: int, signal: int, sent: Callable[[int], None]) -> tuple[int, int, int]:
    """pidfd_send_signal(2) and process_mrelease(2) with nothing between them: the victim is on its way out of its
    memory map on another CPU. The errno of the signal, when it was sent (CLOCK_MONOTONIC, microseconds; as the call
    began, since the victim that it wakes may have our CPU before it returns), and the errno of the release, which is
    not tried when the signal failed. ``sent`` is told the second of them before the release begins, which may last.
    """
    sent_us = _clock_ns() // 1000
    if _send_signal(_PIDFD_SEND_SIGNAL, pidfd, signal, None, 0) < 0:
        return _get_errno(), sent_us, errno.ESRCH
    sent(sent_us)
    failed = _mrelease(_PROCESS_MRELEASE, pidfd, 0) < 0
    return 0, sent_us, _get_errno() if failed else 0


def ioprio_set_thread(tid: int, io_class: int, level: int) -> None:
    """The I/O class and level (0, the first, to 7) of a thread; ioprio_set(2). Raises OSError: ESRCH, EPERM, EINVAL,
    ENOSYS.
    """
    number = ioprio_number(_MACHINE, _POINTER_BYTES, _MULTIARCH)
    if _ioprio(number, _IOPRIO_WHO_PROCESS, tid, io_class << _IOPRIO_CLASS_SHIFT | level) < 0:
        raise _error()


def kcmp_vm(pid: int, other: int) -> bool:
    """Whether two processes have one memory map (CLONE_VM, or between vfork and exec); kcmp(2) with KCMP_VM.

    Raises OSError: ESRCH, EPERM (it asks for what ptrace may read), ENOSYS (not built in, or a machine whose number for
    it is not known here).
    """
    number = KCMP.get(_MACHINE)
    if number is None or (_MACHINE == "x86_64" and _POINTER_BYTES == 4):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    answer = _kcmp(number, pid, other, _KCMP_VM, 0, 0)
    if answer < 0:
        raise _error()
    return bool(answer == 0)


def seteuid_of_thread(uid: int) -> None:
    """Makes the calling thread, and no other, act as this user: what it opens and connects to is opened as that user,
    without a capability; setresuid(2) of the kernel, where libc's would change all threads. Its real and its saved user
    stay, so that the user can neither signal nor trace us.

    Raises OSError: EPERM (it asks for CAP_SETUID), ENOSYS (a machine whose number for it is not known here).
    """
    number = SETRESUID.get(_MACHINE)
    if number is None or (_MACHINE == "x86_64" and _POINTER_BYTES == 4):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _ids(number, _KEEP, uid, _KEEP) < 0:
        raise _error()


def prctl_set_child_subreaper() -> None:
    """Makes orphans among our descendants our children, not init's; PR_SET_CHILD_SUBREAPER(2const). Not
    inherited by fork.
    """
    if _prctl_number(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise _error()


def prctl_get_child_subreaper() -> bool:
    """Whether this process is a child subreaper."""
    value = ctypes.c_int()
    if _prctl_pointer(_PR_GET_CHILD_SUBREAPER, ctypes.addressof(value), 0, 0, 0) < 0:
        raise _error()
    return bool(value.value)


def sched_getcpu() -> int:
    """The CPU on which the calling thread runs right now; sched_getcpu(3), without a system call.

    Raises OSError: ENOSYS.
    """
    cpu: int = _getcpu()
    if cpu < 0:
        raise _error()
    return cpu


def prctl_set_name(name: bytes) -> None:
    """Names the calling thread, which for the main thread is the process's ``comm``; the kernel keeps 15
    bytes.
    """
    buffer = ctypes.create_string_buffer(name)
    if _prctl_pointer(_PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0) < 0:
        raise _error()


def prctl_set_pdeathsig(signal: int) -> None:
    """Lets the kernel send us ``signal`` when the *thread* that started us ends; PR_SET_PDEATHSIG(2const).
    Check getppid() afterwards.
    """
    if _prctl_number(_PR_SET_PDEATHSIG, signal, 0, 0, 0) < 0:
        raise _error()


def mlockall(flags: int) -> None:
    """Keeps our memory from being reclaimed or swapped; MCL_* of this module. mlockall(2).

    Raises OSError: EPERM or ENOMEM where CAP_IPC_LOCK is missing and RLIMIT_MEMLOCK is too low.
    """
    if _mlockall(flags) < 0:
        raise _error()


def share_heap() -> None:
    """Has all threads of this process take memory from one heap, in the place of one each with pages of its own; before
    the first of them starts. mallopt(3) with M_ARENA_MAX; other libcs than glibc have no such call, or take no notice.
    """
    try:
        mallopt = _dropping["mallopt"]
    except AttributeError:
        return
    mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    mallopt(_M_ARENA_MAX, 1)


def unmap_pages(begin: int, end: int) -> None:
    """Has these pages of ours, private ones of a file that nobody has written to, count as not yet touched; who touches
    one gets it from the file again. madvise(2) with MADV_DONTNEED; of locked memory nothing is taken, and that is no
    error.
    """
    madvise = _dropping["madvise"]
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    madvise(begin, end - begin, _MADV_DONTNEED)


def mount_detached(kind: str) -> int:
    """Mounts a file system of this kind in no place at all: in a mount namespace of its own, which nobody else can see
    and which ends with the last descriptor below it. Its root as a descriptor for ``dir_fd=``; fsopen(2), fsmount(2),
    Linux 5.2.

    Raises OSError: EPERM without CAP_SYS_ADMIN, ENODEV where the kernel has no such file system, ENOSYS.
    """
    context = _fsopen(_FSOPEN, kind.encode(), _CLOEXEC)
    if context < 0:
        raise _error()
    try:
        if _fsconfig(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0) < 0:
            raise _error()
        mount: int = _fsmount(_FSMOUNT, context, _CLOEXEC, _MOUNT_ATTR_NOSUID_NODEV_NOEXEC)
        if mount < 0:
            raise _error()
        return mount
    finally:
        os.close(context)


def next_entries(fd: int, room_bytes: int = 256) -> bytes:
    """The next entries of an open directory, where its offset stands, each a struct linux_dirent64: as many as there is
    room for (at most :data:`MOST_ENTRIES_BYTES`), eight at least of those that are pids; none at its end. (os.listdir
    reads 32 KiB of them.) getdents64(2). For one thread at a time. Raises OSError.
    """
    length = -1 if _getdents is None else _getdents(fd, ctypes.addressof(_entries), room_bytes)
    if length < 0:
        code = errno.ENOSYS if _getdents is None else ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return bytes(_entries_view[:length])
