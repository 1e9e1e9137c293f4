"""/proc/meminfo: how much memory there is, and where it is; proc_meminfo(5)."""

from __future__ import annotations

from oomd.kernel.files import KernelFormatError, find_kib
from oomd.model.values import dataclass

__all__ = ["KernelFormatError", "Meminfo", "parse_available", "parse_meminfo", "parse_swap_free"]

_FILE = "/proc/meminfo"


@dataclass(frozen=True, slots=True)
class Meminfo:
    """The fields that decide or explain something, in bytes, in the order of the file; 0 where the kernel does not have
    an optional one. Names follow proc_meminfo(5).
    """

    mem_total_bytes: int
    mem_free_bytes: int
    mem_available_bytes: int
    active_file_bytes: int
    inactive_file_bytes: int
    swap_total_bytes: int
    swap_free_bytes: int
    anon_pages_bytes: int
    shmem_bytes: int
    slab_unreclaimable_bytes: int
    """SUnreclaim."""
    commit_limit_bytes: int
    committed_as_bytes: int


_KEYS = (
    *(b"\nMemTotal:", b"\nMemFree:", b"\nMemAvailable:", b"\nActive(file):", b"\nInactive(file):"),
    *(b"\nSwapTotal:", b"\nSwapFree:", b"\nAnonPages:", b"\nShmem:", b"\nSUnreclaim:"),
    *(b"\nCommitLimit:", b"\nCommitted_AS:"),
)
"""Of the fields of :class:`Meminfo`; each search begins where the last one ended."""
_NEEDED = (b"\nMemTotal:", b"\nMemFree:", b"\nMemAvailable:")


def parse_meminfo(data: bytes) -> Meminfo:
    """The :class:`Meminfo` of the text of /proc/meminfo, which gives KiB (fs/proc/meminfo.c). Read on the way to a
    kill, and at every look before it.

    Raises :class:`KernelFormatError` when MemTotal, MemFree or MemAvailable is missing, or SwapFree where
    there is swap, or any wanted field is no number.
    """
    data = b"\n" + data
    values: list[int] = []
    at = 0
    for key in _KEYS:
        begin = data.find(key, at)
        if begin < 0:
            begin = data.find(key)  # in another order, or not there
        if begin < 0:
            # Where there is swap, a text without its free part is cut off: it must not read as swap that is full.
            if key in _NEEDED or (key == b"\nSwapFree:" and values[-1]):
                raise KernelFormatError(_FILE, key[1:-1].decode())
            values.append(0)
            continue
        begin += len(key)
        at = data.find(b" kB\n", begin)
        try:
            values.append(int(data[begin:at]) << 10 if at >= 0 else -1)
        except ValueError:
            values.append(-1)
        if values[-1] < 0:
            raise KernelFormatError(_FILE, key[1:-1].decode())
    return Meminfo(*values)


def parse_available(data: bytes) -> int:
    """MemAvailable alone, in bytes, of the text of /proc/meminfo. Raises :class:`KernelFormatError` without it."""
    return find_kib(data, b"\nMemAvailable:", _FILE)


def parse_brief(data: bytes) -> tuple[int, int, int, int, int, int]:
    """MemTotal, MemAvailable, AnonPages, Shmem, SwapTotal and SwapFree, in bytes; without swap 0 and 0. Raises
    :class:`KernelFormatError` where one of the others is missing.
    """
    return (
        find_kib(data, b"MemTotal:", _FILE),
        find_kib(data, b"\nMemAvailable:", _FILE),
        find_kib(data, b"\nAnonPages:", _FILE),
        find_kib(data, b"\nShmem:", _FILE),
        find_kib(data, b"\nSwapTotal:", _FILE, default=0),
        find_kib(data, b"\nSwapFree:", _FILE, default=0),
    )


def parse_swap_free(data: bytes) -> int:
    """SwapFree alone, in bytes; 0 where there is none."""
    return find_kib(data, b"\nSwapFree:", _FILE, default=0)
