"""systemd's prekill hooks (systemd-oomd 260 and later): every socket in a directory is told which cgroup is about to
lose somebody, and answers when it is ready. A varlink call, ``io.systemd.oom.Prekill.Notify``.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING

from oomd.outside.program import DONE, FAILED, LATE, NOT_STARTED, Result
from oomd.outside.varlink import VarlinkError, connect, parameters_of

if TYPE_CHECKING:
    from oomd.outside.varlink import Connection

DIRECTORY = "/run/systemd/oomd.prekill.hook"
METHOD = "io.systemd.oom.Prekill.Notify"
MOST_SOCKETS = 32
MOST_REPLY = 16 * 1024
CONNECT_S = 0.1


class Call:
    """One socket that is told; watched until :attr:`result` is there."""

    def __init__(self, path: str, cgroup: str, patience_s: float) -> None:
        self.end_s = time.monotonic() + patience_s
        self.result: Result | None = None
        self._path = path
        self._cgroup = cgroup
        self._connection: Connection | None = None
        self._begin_s = time.monotonic()

    def start(self) -> None:
        """Call it. A socket whose owner accepts nobody any more says so at once (EAGAIN)."""
        try:
            self._connection = connect(self._path, CONNECT_S, MOST_REPLY)
            self._connection.call(METHOD, {"cgroup": self._cgroup})
        except OSError as error:
            self._finish(NOT_STARTED, error.strerror or str(error))

    def fds(self) -> list[int]:
        """What to wait for."""
        return [] if self._connection is None else [self._connection.fileno()]

    def step(self) -> None:
        """An answer, or a part of it, or its end."""
        if self._connection is None:
            return
        try:
            replies = self._connection.receive()
            if replies is None:
                self._finish(FAILED, "hung up")
            elif replies:
                parameters_of(replies[0])
                self._finish(DONE)
        except (OSError, VarlinkError) as error:
            self._finish(FAILED, str(error))

    def give_up(self) -> None:
        """It had its time."""
        if self.result is None:
            self._finish(LATE)

    def _finish(self, status: str, text: str = "") -> None:
        self.result = Result(self._path, status, int((time.monotonic() - self._begin_s) * 1e6), text=text)
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def sockets_in(directory: str = DIRECTORY) -> list[str]:
    """Paths of the sockets there; none where there is no such directory."""
    found = []
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(directory)):
            path = f"{directory}/{name}"
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    found.append(path)
    return found[:MOST_SOCKETS]
