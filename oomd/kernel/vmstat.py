"""/proc/vmstat: what the kernel did since boot, counted; proc_vmstat(5) and mm/vmstat.c."""

from __future__ import annotations

import os

from oomd.kernel.files import PAGE_BYTES, KernelFormatError, find_number, parse_number
from oomd.model.values import dataclass

_FILE = "/proc/vmstat"
TRANSPARENT_HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage"

PAGES_PER_HUGE_PAGE = PAGE_BYTES // 8
"""Pages that one count of thp_fault_alloc stands for: as many as a page table has entries of 8 bytes (512
with pages of 4 KiB).
"""


@dataclass(frozen=True, slots=True)
class Vmstat:
    """Counters since boot, in pages or events; 0 where the kernel lacks one."""

    pgalloc: int
    """Pages allocated, all zones."""
    pgfault: int
    pgmajfault: int
    thp_fault_alloc: int
    thp_collapse_alloc: int
    pswpin: int
    pswpout: int
    oom_kill: int
    allocstall: int
    """Direct reclaims, all zones."""
    workingset_refault_anon: int
    workingset_refault_file: int
    pgscan: int
    """Pages scanned by kswapd and by direct reclaim."""
    pgsteal: int
    """Pages reclaimed by kswapd and by direct reclaim."""
    pgscan_direct: int = 0
    """Those of ``pgscan`` that direct reclaim scanned."""


_COUNTERS = (
    (b"\nworkingset_refault_anon ", "workingset_refault_anon"),
    (b"\nworkingset_refault_file ", "workingset_refault_file"),
    (b"\npswpin ", "pswpin"),
    (b"\npswpout ", "pswpout"),
    (b"\npgfault ", "pgfault"),
    (b"\npgmajfault ", "pgmajfault"),
    (b"\npgsteal_kswapd ", "pgsteal"),
    (b"\npgsteal_direct ", "pgsteal"),
    (b"\npgscan_kswapd ", "pgscan"),
    (b"\npgscan_direct ", "pgscan_direct"),
    (b"\noom_kill ", "oom_kill"),
    (b"\nthp_fault_alloc ", "thp_fault_alloc"),
    (b"\nthp_collapse_alloc ", "thp_collapse_alloc"),
)
"""In the order of the file, so that each search can begin where the last one ended."""


def parse_vmstat(data: bytes) -> Vmstat:
    """The :class:`Vmstat` of the text of /proc/vmstat. Raises KernelFormatError when a wanted counter is no
    number.
    """
    data = b"\n" + data
    counts = {"pgalloc": _sum_zones(data, b"\npgalloc_"), "allocstall": _sum_zones(data, b"\nallocstall_")}
    at = 0
    for key, name in _COUNTERS:
        found = data.find(key, at)
        if found < 0:
            found = data.find(key)
            if found < 0:
                counts.setdefault(name, 0)
                continue
        start = found + len(key)
        at = data.find(b"\n", start)
        text = data[start:at] if at >= 0 else b""
        counts[name] = counts.get(name, 0) + parse_number(text, _FILE, name)
    counts["pgscan"] += counts["pgscan_direct"]
    if not counts["workingset_refault_file"]:
        # Before 5.9 there was one counter, without a suffix, and it counted file pages only.
        counts["workingset_refault_file"] = find_number(data, b"\nworkingset_refault ", _FILE, default=0)
    return Vmstat(**counts)


def _sum_zones(data: bytes, prefix: bytes) -> int:
    """The sum of the lines ``prefix`` + zone name, which stand together; which zones there are depends on
    the machine.
    """
    total = 0
    at = data.find(prefix)
    while at >= 0 and data.startswith(prefix, at):
        end = data.find(b"\n", at + 1)
        line = data[at:end] if end >= 0 else b""
        total += parse_number(line.partition(b" ")[2], _FILE, prefix.decode().strip())
        at = end
    return total


@dataclass(frozen=True, slots=True)
class Growth:
    """Two counters since boot, in pages, whose difference no process outgrows in between.

    Each new anonymous page was allocated, and came by a fault, or several by one huge page; reading files
    inflates the first but not the second. (The difference of AnonPages would be no bound: it is net of what
    others gave back.) What fork gives a child was not allocated: new pids are looked for besides.
    """

    allocated_pages: int
    """pgalloc_*, all zones."""
    faulted_pages: int
    """pgfault, and each huge page as all its pages."""

    def pages_since(self, earlier: Growth) -> int:
        """No process can have gained more anonymous pages than this since then."""
        allocated = self.allocated_pages - earlier.allocated_pages
        return max(0, min(allocated, self.faulted_pages - earlier.faulted_pages))


GROWTH_ENDS = b"\nthp_collapse_alloc "
"""The last line that :func:`parse_growth` looks at."""


_ALLOCATED, _FAULTED, _HUGE, _COLLAPSED = (
    b"\npgalloc_", b"\npgfault ", b"\nthp_fault_alloc ", b"\nthp_collapse_alloc "
)  # fmt: skip
PLACES = dict.fromkeys((_ALLOCATED, _FAULTED, _HUGE, _COLLAPSED), 0)
"""Where :func:`parse_growth` begins to look for its lines; a copy is kept by whoever parses again and again."""
NEAR_BYTES = 64
"""Numbers grow by a digit at a time, and each before a line moves it by that."""


def parse_growth(data: bytes, *, fault_pages: int = 1, places: dict[bytes, int] | None = None) -> Growth | None:
    """The :class:`Growth` of the text of /proc/vmstat; None where the kernel does not count (recorded trees).
    ``fault_pages`` is how many pages one ordinary fault may bring (:func:`read_fault_pages`), ``places`` a copy of
    :data:`PLACES`, which learns.

    Read on the way to a kill. Raises KernelFormatError when a counter is no number.
    """
    data = b"\n" + data
    if places is None:
        places = dict(PLACES)
    at = _find(data, _ALLOCATED, places)
    if at < 0:
        return None
    allocated, words = 0, iter(data[at : data.find(b"\nallocstall", at)].split())
    try:
        for name in words:
            if name[:8] != b"pgalloc_":
                break
            allocated += int(next(words))
        faulted = _count(data, _FAULTED, places)
        huge = _count(data, _HUGE, places) + _count(data, _COLLAPSED, places)
    except (ValueError, StopIteration):
        raise KernelFormatError(_FILE, "pgalloc, pgfault or thp") from None
    if not allocated or not faulted:
        return None
    return Growth(allocated, faulted * fault_pages + huge * PAGES_PER_HUGE_PAGE)


def _find(data: bytes, key: bytes, places: dict[bytes, int]) -> int:
    """Where the line is; below 0 where there is none."""
    place = places[key]
    at = data.find(key, place)
    if at < 0:
        at = data.find(key)
    if at - place > 2 * NEAR_BYTES:
        places[key] = at - NEAR_BYTES
    return at


def _count(data: bytes, key: bytes, places: dict[bytes, int]) -> int:
    """What the line counts; 0 where there is none. Raises ValueError."""
    at = _find(data, key, places)
    if at < 0:
        return 0
    start = at + len(key)
    return int(data[start : data.find(b"\n", start)])


def read_fault_pages(root: str = TRANSPARENT_HUGE_PAGES) -> int:
    """Pages that one fault may bring besides huge pages: the biggest folio size (mTHP, 6.8 and later) that
    is switched on below PMD size.

    1 where there is none, which is the default; thp_fault_alloc counts the PMD size, but these sizes only
    their one fault.
    """
    biggest = 1
    try:
        names = os.listdir(root)
    except OSError:
        return biggest
    inherited = _is_enabled(f"{root}/enabled", inherited=False)
    for name in names:
        size = name.removeprefix("hugepages-").removesuffix("kB")
        if size == name or not size.isdecimal() or not _is_enabled(f"{root}/{name}/enabled", inherited=inherited):
            continue
        pages = int(size) * 1024 // PAGE_BYTES
        if pages < PAGES_PER_HUGE_PAGE:
            biggest = max(biggest, pages)
    return biggest


def _is_enabled(path: str, *, inherited: bool) -> bool:
    """Whether the choice in brackets (``always [inherit] madvise never``) lets the kernel use the size."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return False
    if b"[inherit]" in data:
        return inherited
    return b"[never]" not in data
