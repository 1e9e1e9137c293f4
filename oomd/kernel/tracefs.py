"""A trace instance of our own that tells of every SIGKILL on the machine; Documentation/trace/ftrace.rst.

tracefs is one for the whole kernel; an instance in it has its own buffers, events and filters and leaves everybody
else's tracing alone. It outlives whoever made it, so its name says whose it is: ``oomd-PID-START``.

Switching the event on also makes the kernel remember the names of those who run (``record-cmd``): a cheap probe at each
switch of tasks. That option is left as it is, because the kernel applies it to every instance at once.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager

from oomd.kernel.files import KernelFormatError, unescape_octal
from oomd.kernel.process import parse_stat, read_pid_file
from oomd.kernel.syscalls import mount_detached
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO of include/linux/proc_ns.h."""
EVENT = "events/signal/signal_generate"
FILTER = b"sig==9"
MOST_BUFFER_KIB = 8192
BUFFER_KIB = (32, 256)
"""Least and most per CPU: a record takes 56 bytes, so 256 KiB hold 4600 SIGKILLs that were sent on one CPU before
anybody looked."""
PATIENCE_S = 2.0
PAUSE_S = 0.01
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class TracingMissing(Exception):  # noqa: N818 - a state, not a fault
    """SIGKILLs cannot be traced here; the message says why."""


@dataclass(frozen=True, slots=True)
class Instance:
    """A trace instance at work; the descriptors are the owner's to close."""

    name: str
    instances_fd: int
    """The directory that it stands in, from which it can be removed."""
    pipe_fd: int
    """Its ``trace_pipe``, non-blocking."""


def make_instance(pid: int) -> Instance:
    """An instance for this process of ours, at work. Raises TracingMissing with the reason."""
    instances_fd = open_instances()
    name = f"oomd-{pid}-{_start_ticks(pid)}"
    try:
        with _words(f"instances/{name} cannot be set up"):
            os.mkdir(name, 0o700, dir_fd=instances_fd)
            try:
                return Instance(name, instances_fd, _set_up(instances_fd, name))
            except BaseException:
                os.rmdir(name, dir_fd=instances_fd)
                raise
    except BaseException:
        os.close(instances_fd)
        raise


def why_not_traced() -> str:
    """Why SIGKILLs cannot be traced here, by this process; empty when they can: it is tried."""
    try:
        made = make_instance(os.getpid())
    except TracingMissing as error:
        return str(error)
    os.close(made.pipe_fd)
    remove_instance(made.instances_fd, made.name)
    os.close(made.instances_fd)
    return ""


def open_instances() -> int:
    """The ``instances`` directory of a tracefs, privately mounted where that is permitted, else where somebody else
    has mounted it. Raises TracingMissing.
    """
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError as error:
        raise TracingMissing(f"/proc/self/ns/pid cannot be read ({error.strerror})") from error
    if namespace != FIRST_PID_NAMESPACE:
        raise TracingMissing("records name processes as the machine's first PID namespace does, and this is another")
    root = _open_root()
    try:
        with _words("it has no usable event signal/signal_generate"):
            os.close(os.open(f"{EVENT}/enable", os.O_RDONLY | os.O_CLOEXEC, dir_fd=root))
        with _words("its instances cannot be used"):
            return os.open("instances", _DIRECTORY, dir_fd=root)
    finally:
        os.close(root)


def remove_instance(instances_fd: int, name: str, patience_s: float = PATIENCE_S) -> bool:
    """Remove it, waiting for the last descriptor of a process that is just ending. False when it is still in use."""
    end = time.monotonic() + patience_s
    while True:
        try:
            os.rmdir(name, dir_fd=instances_fd)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > end:
                return False
        else:
            return True
        time.sleep(PAUSE_S)


def remove_stale(instances_fd: int) -> list[str]:
    """Remove the instances of oomds that are no more; the names of those that went. Nobody else's is touched."""
    removed = []
    for name in os.listdir(instances_fd):
        owner = owner_of(name)
        if owner is not None and not _lives(*owner) and remove_instance(instances_fd, name, 0):
            removed.append(name)
    return removed


def owner_of(name: str) -> tuple[int, int] | None:
    """Pid and start time of the oomd that an instance of this name belongs to; None for somebody else's."""
    begin, *numbers = name.split("-")
    if begin != "oomd" or len(numbers) != 2 or not all(each.isascii() and each.isdecimal() for each in numbers):
        return None
    if any(len(each) > 20 or each != str(int(each)) for each in numbers):
        return None  # not as we write it
    return int(numbers[0]), int(numbers[1])


def find_tracefs(mountinfo: bytes) -> list[str]:
    """Where tracefs is mounted; proc_pid_mountinfo(5)."""
    points = []
    for line in mountinfo.split(b"\n"):
        fields, separator, rest = line.partition(b" - ")
        words = fields.split(b" ")
        if separator and rest.split(b" ")[0] == b"tracefs" and len(words) > 4:
            points.append(os.fsdecode(unescape_octal(words[4])))
    return points


def lockdown() -> str:
    """The kernel's lockdown mode: ``none``, ``integrity``, ``confidentiality`` (which forbids tracefs); empty where it
    cannot be told. kernel_lockdown(7).
    """
    try:
        with open("/sys/kernel/security/lockdown", encoding="ascii") as file:
            text = file.read()
    except (OSError, ValueError):
        return ""
    return text.partition("[")[2].partition("]")[0]


def _open_root() -> int:
    try:
        return mount_detached("tracefs")
    except OSError as error:
        refused = error
    if refused.errno == errno.ENODEV:
        raise TracingMissing("this kernel has no tracefs") from refused
    with open("/proc/self/mountinfo", "rb") as file:
        points = find_tracefs(file.read())
    for point in points:
        try:
            return os.open(point, _DIRECTORY)
        except OSError as error:
            refused = error
    where = f"{', '.join(points)} cannot be opened" if points else "tracefs is mounted nowhere and cannot be mounted"
    raise TracingMissing(_reason(where, refused)) from refused


def _set_up(instances_fd: int, name: str) -> int:
    instance = os.open(name, _DIRECTORY, dir_fd=instances_fd)
    try:
        least, most = BUFFER_KIB
        size = min(most, max(least, MOST_BUFFER_KIB // (os.cpu_count() or 1)))
        _write(instance, "buffer_size_kb", str(size).encode())
        # Without it each line begins with the name of who sent the signal, which may be any text at all.
        _write(instance, "trace_options", b"nocontext-info")
        _write(instance, f"{EVENT}/filter", FILTER)
        _write(instance, f"{EVENT}/enable", b"1")
        return os.open("trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=instance)
    finally:
        os.close(instance)


def _write(directory_fd: int, name: str, text: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory_fd)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


def _lives(pid: int, start_ticks: int) -> bool:
    try:
        return _start_ticks(pid) == start_ticks
    except TracingMissing:
        return False


def _start_ticks(pid: int) -> int:
    """Raises TracingMissing when it has ended (a zombie has)."""
    proc_fd = os.open("/proc", _DIRECTORY)
    try:
        data = read_pid_file(proc_fd, pid, "stat", denied=b"")
        stat = parse_stat(data) if data else None
    except KernelFormatError:
        stat = None
    finally:
        os.close(proc_fd)
    if stat is None or (stat.state in ("Z", "X") and stat.num_threads <= 1):
        raise TracingMissing(f"/proc/{pid}/stat cannot be read")
    return stat.start_ticks


@contextmanager
def _words(what: str) -> Iterator[None]:
    """An OSError as the reason."""
    try:
        yield
    except OSError as error:
        raise TracingMissing(_reason(what, error)) from error


def _reason(what: str, error: OSError) -> str:
    number = error.errno or errno.EIO
    name = errno.errorcode.get(number, str(number))
    if number in (errno.EPERM, errno.EACCES, errno.EROFS):
        if lockdown() == "confidentiality":
            return f"{what} ({name}: the kernel is locked down for confidentiality)"
        needs = "needs CAP_SYS_ADMIN, or a tracefs that root may write"
        return f"{what} ({name}: {needs}; under systemd see oomd-every-exit.conf)"
    return f"{what} ({name}: {os.strerror(number)})"
