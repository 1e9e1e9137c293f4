"""The control socket's place in the file system: made at once with its rights, stale ones replaced, ours removed at the
end. Whoever calls this holds the lock of the directory, through the killer.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
from typing import TYPE_CHECKING

from oomd.kernel.acl import grant_group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "control.sock"
BACKLOG = 16
MODE = 0o600
GROUP_MODE = 0o660
MOST_PATH = 107
"""Bytes of a path in sockaddr_un."""


class Doorway:
    """One listening socket at a place."""

    def __init__(
        self, directory: str, gid: int | None = None, complain: Callable[[str], object] = lambda _: None
    ) -> None:
        """``gid``: a group whose members may connect too; ``complain`` is told why they cannot."""
        self._directory = directory
        self._gid = gid
        self._complain = complain
        self._identity: tuple[int, int] | None = None
        self._watch_fd = -1

    @property
    def path(self) -> str:
        """Where it is."""
        return f"{self._directory}/{NAME}"

    def open(self) -> socket.socket:
        """A socket that listens there, in the place of whatever a daemon before left. Raises OSError.

        It is bound under another name, given its rights, and renamed: at no moment may anybody connect who must not,
        and at no moment is there none.
        """
        fresh = f"{self._directory}/.{NAME}.new"
        _refuse_strangers(self._directory)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            # bind() gives the file the mode of the socket's own inode: there is no moment with another.
            os.fchmod(listener.fileno(), MODE)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
            with address_of(fresh) as address:
                listener.bind(address)
            if self._gid is not None:
                self._let_in(fresh, self._gid)
            listener.listen(BACKLOG)
            found = os.lstat(fresh)
            os.rename(fresh, self.path)
        except BaseException:
            listener.close()
            raise
        self._identity = (found.st_dev, found.st_ino)
        return listener

    def _let_in(self, path: str, gid: int) -> None:
        """Members of the group may connect."""
        try:
            os.chown(path, -1, gid, follow_symlinks=False)
            os.chmod(path, GROUP_MODE)
        except OSError:
            # A service has no CAP_CHOWN, and is not in the group.
            try:
                grant_group(path, gid)
            except OSError as error:
                self._complain(f"control.group: {self.path} can be given neither group nor list: {error.strerror}")

    def is_there(self) -> bool:
        """Whether what is at the place is still ours: cleaners of /run and /tmp know no sockets."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def watch(self) -> bool:
        """Have the kernel send this process SIGIO whenever something in the directory is removed or renamed (fcntl(2),
        F_NOTIFY); False where it does not. Only for whoever has a handler: else that is the end.
        """
        self._forget_watch()
        try:
            self._watch_fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.fcntl(self._watch_fd, fcntl.F_NOTIFY, fcntl.DN_DELETE | fcntl.DN_RENAME | fcntl.DN_MULTISHOT)
        except OSError:
            self._forget_watch()
            return False
        return True

    def _forget_watch(self) -> None:
        if self._watch_fd >= 0:
            os.close(self._watch_fd)
        self._watch_fd = -1

    def remove(self) -> None:
        """Nobody listens there any more; what is somebody else's stays."""
        self._forget_watch()
        if self.is_there():
            with contextlib.suppress(OSError):
                os.unlink(self.path)


@contextlib.contextmanager
def address_of(path: str) -> Iterator[str]:
    """A name for the socket at this path that fits into an address, however long the path is. Raises OSError."""
    if len(os.fsencode(path)) <= MOST_PATH:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)


def _refuse_strangers(directory: str) -> None:
    """Where others may rename and remove, no place is ours."""
    found = os.stat(directory)
    if found.st_uid not in (0, os.geteuid()) or (found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX):
        raise PermissionError(1, "others may write to that directory", directory)
