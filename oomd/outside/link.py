"""The killer's end of the link: bounded datagrams, never waited for."""

from __future__ import annotations

import errno
import marshal
import os

from oomd.outside.plain import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.model.report import Plain

MOST_BYTES = 256 * 1024
"""The longest datagram, either way."""
_TOO_LONG_KEYS = ("ranking", "rejected", "detections")


class Link:
    """Sends events, receives commands; drops and counts what does not fit."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.dropped = 0
        self.closed = False

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._fd

    def send(self, event: Plain) -> bool:
        """Send one event; False when it was dropped: no room, nobody there, too long even without its lists."""
        if not self.closed:
            sent = self._write(event)
            if sent == errno.EMSGSIZE:
                sent = self._write({key: [] if key in _TOO_LONG_KEYS else value for key, value in event.items()})
            if sent == 0:
                return True
        self.dropped += 1
        return False

    def receive(self) -> Plain | None:
        """One command, or None; :attr:`closed` tells that the other end is gone."""
        try:
            data = os.read(self._fd, MOST_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return None
        try:
            message = loads(data)
        except ValueError:
            return None
        return message if isinstance(message, dict) else None

    def reopen(self, fd: int) -> None:
        """Go on with a new outside process."""
        self._fd = fd
        self.closed = False

    def close(self) -> None:
        """Close the descriptor; counts of what is dropped go on."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self.closed = True

    def _write(self, event: Plain) -> int:
        """0, or the errno."""
        try:
            data = marshal.dumps(event)
            if len(data) > MOST_BYTES:
                return errno.EMSGSIZE  # the other end reads no more at once, whatever the socket would take
            os.write(self._fd, data)
        except OSError as error:  # EPIPE too: the interpreter ignores SIGPIPE
            return error.errno or errno.EIO
        except ValueError:  # a value that is not plain is a bug of ours, and costs this report, not the kill
            return errno.EINVAL
        return 0
