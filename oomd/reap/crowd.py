"""Several victims of one kill, all of them signalled: the workers take them, largest first."""

from __future__ import annotations

import errno
import os
from collections import deque

from oomd.reap.dying import NO_LIMIT, try_reap_dying_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.decision import Warrant
    from oomd.reap.base import Reaper


class Crowd:
    """What is left of them."""

    def __init__(self, signalled: list[tuple[Warrant, int]], max_bytes: int, proc_fd: int) -> None:
        """``signalled``: each with a copy of its pidfd, which is the crowd's to close; ``max_bytes``: none is begun
        once
        so many are back.
        """
        self._left = deque(sorted(signalled, key=lambda each: -each[0].expected_bytes))
        self._wanted_bytes = max_bytes
        self._counts = max_bytes != NO_LIMIT
        """Counting costs two looks at /proc for each: only where the count decides."""
        self._proc_fd = proc_fd

    def take(self) -> tuple[Warrant, int] | None:
        """The largest that nobody has taken."""
        try:
            return self._left.popleft()
        except IndexError:
            return None

    def reap(self, reaper: Reaper, warrant: Warrant, pidfd: int) -> tuple[int, int]:
        """Errno and bytes; closes the descriptor."""
        try:
            if not self._counts:
                number = reaper.reap(pidfd)
                return number, warrant.expected_bytes if number == 0 else 0
            if self._wanted_bytes <= 0 or reaper.name == "none":
                return errno.ENOSYS, 0
            taken = try_reap_dying_process(pidfd, proc_fd=self._proc_fd)
        except OSError as error:  # no backend may end a worker
            return error.errno or errno.EIO, 0
        finally:
            os.close(pidfd)
        self._wanted_bytes -= taken
        return 0, taken
