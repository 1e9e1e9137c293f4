"""Several victims of one kill, all of them signalled: the workers take them, largest first.

Where nothing hinders them and CPUs are idle, as many victims as there are CPUs free their memory as fast as the machine
can: a reap would take the CPU from the victim next to it. They are left alone as long as they get on.
"""

from __future__ import annotations

import errno
import os
import time
from _thread import allocate_lock

from oomd.kernel.files import KernelFormatError
from oomd.kernel.loadavg import parse_runnable
from oomd.kernel.pidfd import find_readable, is_readable
from oomd.reap.dying import NO_LIMIT, try_reap_dying_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from oomd.model.decision import Warrant
    from oomd.reap.base import Reaper
else:
    from _collections import deque  # the C module alone


MOMENT_S = 0.02
"""Of victims that get on by themselves one at least ends in this time: 20 MiB take 3 ms."""


class Cpus:
    """Those that we may use, and whether they have nothing to do."""

    def __init__(self, proc: str) -> None:
        """Raises OSError."""
        self.count = len(os.sched_getaffinity(0))
        self._load_fd = os.open(f"{proc}/loadavg", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def are_idle(self) -> bool:
        """At least half of them, but for the caller."""
        try:
            return (parse_runnable(os.pread(self._load_fd, 128, 0)) - 1) * 2 <= self.count
        except (OSError, KernelFormatError):
            return False

    def close(self) -> None:
        """Close the file."""
        os.close(self._load_fd)


class Crowd:
    """What is left of them."""

    def __init__(
        self,
        victims: list[tuple[Warrant, int]],
        proc_fd: int,
        max_bytes: int = NO_LIMIT,
        when_done: Callable[[], object] = lambda: None,
        *,
        watch: bool = False,
    ) -> None:
        """``victims``: each with a copy of its pidfd, which is to be closed by whoever takes it; ``max_bytes``: none is
        begun once so many are back; ``when_done`` is called once, after the last reap;
        ``watch``: they are left alone first, by whoever comes first.
        """
        self.watch = watch
        self._left = deque(sorted(victims, key=lambda each: -each[0].expected_bytes))
        self._unfinished = len(victims)
        self._wanted_bytes = max_bytes
        self._proc_fd = proc_fd
        self._when_done = when_done
        self._counting = allocate_lock()

    def leave_alone(self) -> list[tuple[Warrant, int]]:
        """Wait as long as one after the other ends by itself; who is still there."""
        left = list(self._left)
        while left:
            time.sleep(MOMENT_S)  # a worker's own thread
            dead = find_readable(pidfd for _, pidfd in left)
            if not dead:
                break
            left = [each for each in left if each[1] not in dead]
        return left

    def take(self) -> tuple[Warrant, int] | None:
        """The largest that nobody has taken."""
        try:
            return self._left.popleft()
        except IndexError:
            return None

    def reap(self, reaper: Reaper, pidfd: int) -> tuple[int, int]:
        """Errno and bytes."""
        number, taken = self._reap(reaper, pidfd)
        with self._counting:
            self._wanted_bytes -= taken
            self._unfinished -= 1
            done = self._unfinished == 0
        if done:
            self._when_done()
        return number, taken

    def _reap(self, reaper: Reaper, pidfd: int) -> tuple[int, int]:
        if self._wanted_bytes <= 0 or reaper.name == "none":
            return errno.ENOSYS, 0
        if is_readable(pidfd):
            return errno.ESRCH, 0
        try:
            return 0, try_reap_dying_process(pidfd, proc_fd=self._proc_fd)
        except OSError as error:  # no backend may end a worker
            number = error.errno or errno.EIO
        if number == errno.EBUSY:  # a part is held: tried again as the backend does
            number = reaper.reap(pidfd)
        return number, 0
