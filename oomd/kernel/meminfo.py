"""/proc/meminfo: how much memory there is, and where it is; proc_meminfo(5)."""

from __future__ import annotations

from oomd.kernel.files import KernelFormatError, find_kib
from oomd.model.values import dataclass

__all__ = ["KernelFormatError", "Meminfo", "parse_available", "parse_meminfo", "parse_swap_free"]

_FILE = "/proc/meminfo"


@dataclass(frozen=True, slots=True)
class Meminfo:
    """The fields that decide or explain something, in bytes; 0 where the kernel does not have an optional
    one.

    Names follow proc_meminfo(5). ``cached_bytes`` contains shmem, which cannot be dropped: never read it as
    available.
    """

    mem_total_bytes: int
    mem_free_bytes: int
    mem_available_bytes: int
    buffers_bytes: int
    cached_bytes: int
    active_file_bytes: int
    inactive_file_bytes: int
    swap_total_bytes: int
    swap_free_bytes: int
    anon_pages_bytes: int
    shmem_bytes: int
    slab_unreclaimable_bytes: int
    """SUnreclaim."""
    kernel_stack_bytes: int
    page_tables_bytes: int
    commit_limit_bytes: int
    committed_as_bytes: int


def parse_meminfo(data: bytes) -> Meminfo:
    """The :class:`Meminfo` of the text of /proc/meminfo, which gives KiB (fs/proc/meminfo.c).

    Raises :class:`KernelFormatError` when MemTotal, MemFree or MemAvailable is missing, or SwapFree where
    there is swap, or any wanted field is no number.
    """
    data = b"\n" + data
    swap_total = find_kib(data, b"\nSwapTotal:", _FILE, default=0)
    return Meminfo(
        find_kib(data, b"\nMemTotal:", _FILE),
        find_kib(data, b"\nMemFree:", _FILE),
        find_kib(data, b"\nMemAvailable:", _FILE),
        find_kib(data, b"\nBuffers:", _FILE, default=0),
        find_kib(data, b"\nCached:", _FILE, default=0),
        find_kib(data, b"\nActive(file):", _FILE, default=0),
        find_kib(data, b"\nInactive(file):", _FILE, default=0),
        swap_total,
        # Where there is swap, a text without its free part is cut off: it must not read as swap that is full.
        find_kib(data, b"\nSwapFree:", _FILE, default=None if swap_total else 0),
        find_kib(data, b"\nAnonPages:", _FILE, default=0),
        find_kib(data, b"\nShmem:", _FILE, default=0),
        find_kib(data, b"\nSUnreclaim:", _FILE, default=0),
        find_kib(data, b"\nKernelStack:", _FILE, default=0),
        find_kib(data, b"\nPageTables:", _FILE, default=0),
        find_kib(data, b"\nCommitLimit:", _FILE, default=0),
        find_kib(data, b"\nCommitted_AS:", _FILE, default=0),
    )


def parse_available(data: bytes) -> int:
    """MemAvailable alone, in bytes, of the text of /proc/meminfo. Raises :class:`KernelFormatError` without it."""
    return find_kib(data, b"\nMemAvailable:", _FILE)


def parse_swap_free(data: bytes) -> int:
    """SwapFree alone, in bytes; 0 where there is none."""
    return find_kib(data, b"\nSwapFree:", _FILE, default=0)
