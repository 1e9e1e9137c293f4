"""``python -I -S victim.py KIND BYTES``: owns so much private memory, says so on standard output, and waits for its
end.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import threading
import time

MADV_POPULATE_WRITE = 23
"""Linux 5.14; include/uapi/asm-generic/mman-common.h."""
MADV_PAGEOUT = 21
THREADS = 32
LONGEST_S = 120.0


def take(size: int, *, huge: bool = False) -> mmap.mmap:
    """Pages of its own, every one of them touched."""
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without transparent huge pages gives small ones anyway
        block.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    try:
        block.madvise(MADV_POPULATE_WRITE)
    except OSError:
        for offset in range(0, size, mmap.PAGESIZE):
            block[offset] = 1
    return block


def main() -> None:
    """Hold, then wait."""
    parent = os.getppid()
    kind, size = sys.argv[1], int(sys.argv[2])
    held: list[mmap.mmap] = []
    if kind == "threads":
        part = size // THREADS // mmap.PAGESIZE * mmap.PAGESIZE
        filled = threading.Barrier(THREADS + 1)

        def hold() -> None:
            held.append(take(part))
            filled.wait()
            time.sleep(LONGEST_S)

        for _ in range(THREADS):
            threading.Thread(target=hold, daemon=True).start()
        filled.wait()
    elif kind != "hog":
        begin = time.monotonic()
        held.append(take(size, huge=kind == "thp"))
        seconds = time.monotonic() - begin
        if kind == "swapped":
            held[0].madvise(MADV_PAGEOUT, 0, size // 2 // mmap.PAGESIZE * mmap.PAGESIZE)
        os.write(1, f"{seconds}\n".encode())
    os.write(1, b"ready\n")
    if kind in ("busy", "hog", "throttled"):
        while os.getppid() == parent:
            pass
    time.sleep(LONGEST_S)


if __name__ == "__main__":
    main()
