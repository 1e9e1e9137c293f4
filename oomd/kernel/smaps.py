"""/proc/PID/smaps_rollup: what only this process holds; proc_pid_smaps(5)."""

from __future__ import annotations

from oomd.kernel.files import find_kib
from oomd.kernel.process import read_pid_file
from oomd.model.values import dataclass


@dataclass(frozen=True, slots=True)
class Rollup:
    """Sums over all mappings, in bytes. ``None`` for what kernels before 5.3 do not tell."""

    rss_bytes: int
    anonymous_bytes: int
    pss_anon_bytes: int | None
    pss_shmem_bytes: int | None
    private_dirty_bytes: int
    private_clean_bytes: int
    swap_bytes: int
    swap_pss_bytes: int
    referenced_bytes: int | None = None
    """Pages that were touched, of files too, since the kernel looked last or somebody wrote clear_refs."""

    @property
    def untouched_bytes(self) -> int | None:
        """Anonymous memory that was not touched since then, at least; None where the kernel does not tell. What is
        referenced may as well be of files: then more of it is untouched.
        """
        if self.referenced_bytes is None:
            return None
        return max(0, self.anonymous_bytes - self.referenced_bytes)

    @property
    def private_bytes(self) -> int:
        """Anonymous memory and swap that this process alone holds, that is, what killing it gives back: an
        estimate.

        The kernel does not give private *anonymous* memory. Private_Dirty is nearly that: it misses private
        pages that are clean (just swapped in) and adds dirty private pages of shared files. The proportional
        share bounds it: Pss_Anon = private + Σ page/sharers with at least two sharers each, so private lies
        between 2·Pss_Anon - Anonymous and Pss_Anon. For swap there is only that bound.
        """
        if self.pss_anon_bytes is None:
            anon = min(self.anonymous_bytes, self.private_dirty_bytes)
        else:
            lowest = max(0, 2 * self.pss_anon_bytes - self.anonymous_bytes)
            anon = min(max(self.private_dirty_bytes, lowest), self.pss_anon_bytes)
        return anon + max(0, 2 * self.swap_pss_bytes - self.swap_bytes)

    @property
    def proportional_bytes(self) -> int:
        """Its share of anonymous memory, shmem and swap: over all processes these add up to what is used,
        with nothing counted twice.

        Where the kernel does not tell Pss_Anon, all of Anonymous.
        """
        anon = self.anonymous_bytes if self.pss_anon_bytes is None else self.pss_anon_bytes
        return anon + (self.pss_shmem_bytes or 0) + self.swap_pss_bytes


_ROLLUP = "/proc/PID/smaps_rollup"


def parse_smaps_rollup(data: bytes) -> Rollup:
    """The :class:`Rollup` of /proc/PID/smaps_rollup (fs/proc/task_mmu.c). Raises KernelFormatError.

    Reading the file walks all page tables: 16-24 ms per GiB. Never of a process that was condemned, whose
    memory it would pin.
    """
    return Rollup(
        rss_bytes=find_kib(data, b"\nRss:", _ROLLUP),
        anonymous_bytes=find_kib(data, b"\nAnonymous:", _ROLLUP),
        pss_anon_bytes=find_kib(data, b"\nPss_Anon:", _ROLLUP) if b"\nPss_Anon:" in data else None,
        pss_shmem_bytes=find_kib(data, b"\nPss_Shmem:", _ROLLUP) if b"\nPss_Shmem:" in data else None,
        private_dirty_bytes=find_kib(data, b"\nPrivate_Dirty:", _ROLLUP),
        private_clean_bytes=find_kib(data, b"\nPrivate_Clean:", _ROLLUP),
        swap_bytes=find_kib(data, b"\nSwap:", _ROLLUP, default=0),
        swap_pss_bytes=find_kib(data, b"\nSwapPss:", _ROLLUP, default=0),
        # The kernel has it where it was built with CONFIG_PROC_PAGE_MONITOR, as this file itself.
        referenced_bytes=find_kib(data, b"\nReferenced:", _ROLLUP) if b"\nReferenced:" in data else None,
    )


def read_rollup(proc_fd: int, pid: int) -> Rollup | None:
    """smaps_rollup now; None when the process is gone or not ours to look into."""
    try:
        data = read_pid_file(proc_fd, pid, "smaps_rollup")
        return parse_smaps_rollup(data) if data else None
    except (OSError, ValueError):
        return None
