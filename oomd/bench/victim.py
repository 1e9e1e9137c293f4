"""``python -I -S victim.py KIND BYTES PARENT``: owns so much private memory, says so on standard output, and waits for
its end, which comes with that of its parent at the latest.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
import threading
import time

# A script of its own, without site: it must find the package that it is part of.
sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from oomd.kernel.syscalls import prctl_set_pdeathsig

MADV_POPULATE_WRITE = 23
"""Linux 5.14; include/uapi/asm-generic/mman-common.h."""
MADV_PAGEOUT = 21
"""Linux 5.4."""
NOISE_BYTES = 1 << 20
PUSHES = 5
PUSH_S = 0.1
THREADS = 32
LONGEST_S = 120.0


def reserve(size: int, *, huge: bool = False) -> mmap.mmap:
    """Addresses, no pages yet."""
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without transparent huge pages gives small ones anyway
        block.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    return block


def touch(block: mmap.mmap) -> None:
    """A page of our own everywhere, as fast as the kernel gives them."""
    try:
        block.madvise(MADV_POPULATE_WRITE)
    except OSError:
        for offset in range(0, len(block), mmap.PAGESIZE):
            block[offset] = 1


def fill(block: mmap.mmap) -> None:
    """Content that nobody can make smaller: pages of zeros never reach a swap device, and zram stores no other page
    that is all one word.
    """
    noise = os.urandom(NOISE_BYTES)
    for offset in range(0, len(block), NOISE_BYTES):
        part = min(NOISE_BYTES, len(block) - offset)
        block[offset : offset + part] = noise[:part]


def push_to_swap(block: mmap.mmap, size: int) -> None:
    """Several times: what is being written to a slow device stays until it was."""
    for _ in range(PUSHES):
        block.madvise(MADV_PAGEOUT, 0, size // mmap.PAGESIZE * mmap.PAGESIZE)
        time.sleep(PUSH_S)


def main() -> None:
    """Hold, then wait."""
    kind, size, parent = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the bench ends its victims
    prctl_set_pdeathsig(signal.SIGKILL)  # between our start and the guardian's hearing of us nobody else would do it
    if os.getppid() != parent:
        return
    held: list[mmap.mmap] = []
    if kind == "threads":
        part = size // THREADS // mmap.PAGESIZE * mmap.PAGESIZE
        filled = threading.Barrier(THREADS + 1)

        def hold() -> None:
            block = reserve(part)
            touch(block)
            fill(block)
            held.append(block)
            filled.wait()
            time.sleep(LONGEST_S)

        for _ in range(THREADS):
            threading.Thread(target=hold, daemon=True).start()
        filled.wait()
    elif kind != "hog":
        block = reserve(size, huge=kind == "thp")
        begin = time.monotonic()
        touch(block)
        seconds = time.monotonic() - begin
        fill(block)
        held.append(block)
        if kind == "swapped":
            push_to_swap(block, size // 2)
        os.write(1, f"{seconds}\n".encode())
    os.write(1, b"ready\n")
    if kind in ("busy", "hog", "throttled"):
        while os.getppid() == parent:
            pass
    time.sleep(LONGEST_S)


if __name__ == "__main__":
    main()
