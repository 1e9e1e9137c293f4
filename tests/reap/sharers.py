"""A process and its child that share one memory map, as between vfork(2) and exec: posix_spawn's child, which waits in
the open of a FIFO that nobody writes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CODE = """
import os, sys
held = bytearray(b"x") * (int(sys.argv[2]) << 20)
print(flush=True)
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
"""


@contextlib.contextmanager
def sharers(folder: Path, mib: int = 8) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The parent and the pid of its child, both alive and with one memory map; both gone afterwards."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    parent = subprocess.Popen([sys.executable, "-c", _CODE, str(fifo), str(mib)], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        end = time.monotonic() + 90
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        while not (found := children.read_text("ascii").split()):
            assert time.monotonic() < end
            os.sched_yield()
        child = int(found[0])
        pidfd = os.pidfd_open(child)
        try:
            yield parent, child
        finally:
            parent.kill()
            with contextlib.suppress(ProcessLookupError):  # else it would wait for a writer for ever
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
