"""What the user is looking at, and must therefore never be frozen. It is told from three things:

- the terminals: a process in the foreground of one (tpgid of proc_pid_stat(5)) is what is typed at there;
- logind: the user whose session is active on a seat, or is graphical and active, sits in front of it. Which of the
  windows has the focus nobody outside of the desktop knows, so all that is the user's counts as looked at, but what the
  desktop itself put into ``background.slice`` (systemd's convention for desktop environments) and what runs as no user;
- without logind: the virtual terminal that is shown (/sys/class/tty/tty0/active), and the user who runs on it.

Read by the thread that freezes, just before it does.
"""

from __future__ import annotations

import os

from oomd.kernel.process import decode_name, list_pids, parse_status, read_pid_file
from oomd.model.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

SESSIONS = "/run/systemd/sessions"
"""One file per session, as libsystemd itself reads them (sd_session_is_active(3))."""
SHOWN_TERMINAL = "/sys/class/tty/tty0/active"
BACKGROUND = "/background.slice/"
_GRAPHICAL = ("x11", "wayland", "mir")
_TTY_MAJOR = 4
_MOST_BYTES = 4096


def active_users(sessions: str = SESSIONS) -> frozenset[int] | None:
    """Users who sit in front of this machine, or of a screen that is shown elsewhere; None where there is no logind."""
    try:
        names = os.listdir(sessions)
    except OSError:
        return None
    users = set()
    for name in names:
        values = _read_values(f"{sessions}/{name}")
        seen = values.get("SEAT") or values.get("TYPE") in _GRAPHICAL
        if values.get("ACTIVE") == "1" and seen and values.get("UID", "").isdigit():
            users.add(int(values["UID"]))
    return frozenset(users)


def shown_terminal(path: str = SHOWN_TERMINAL) -> int:
    """The device number of the virtual terminal that is shown, as stat tells it (tty_nr); 0 where there is none."""
    text = _read(path).strip()
    number = text.removeprefix("tty")
    return _TTY_MAJOR << 8 | int(number) if number.isdigit() and 0 < int(number) < 64 else 0


class Onlooker:
    """Tells for processes whether they are looked at, as things stood when it was made."""

    def __init__(self, proc_fd: int, sessions: str = SESSIONS, terminal: str = SHOWN_TERMINAL) -> None:
        self._proc_fd = proc_fd
        users = active_users(sessions)
        self._users = self._at_terminal(shown_terminal(terminal)) if users is None else users

    def why_looked_at(self, path: str, pids: Iterable[int]) -> str:
        """Why a cgroup with these processes must not be frozen; empty where nobody looks at it."""
        for pid in pids:
            seen = _terminal_of(self._proc_fd, pid)
            if seen is None:
                continue
            if seen.foreground:
                return f"holds {seen.comm} ({pid}), which is in the foreground of a terminal"
            uid = self._uid(pid)
            if uid > 0 and uid in self._users and BACKGROUND not in f"{path}/":
                return f"holds {seen.comm} ({pid}) of user {uid}, who sits in front of the machine"
        return ""

    def _at_terminal(self, number: int) -> frozenset[int]:
        """The users of everybody whose terminal that is."""
        if not number:
            return frozenset()
        terminals = {pid: _terminal_of(self._proc_fd, pid) for pid in list_pids(self._proc_fd)}
        return frozenset(self._uid(pid) for pid, seen in terminals.items() if seen is not None and seen.tty == number)

    def _uid(self, pid: int) -> int:
        """The effective user; -1 where it is gone."""
        try:
            data = read_pid_file(self._proc_fd, pid, "status", denied=b"")
            if data:
                return parse_status(data).uid
        except (OSError, ValueError):
            pass
        return -1


@dataclass(frozen=True, slots=True)
class _Terminal:
    """What a process has to do with terminals."""

    comm: str
    tty: int
    """The device number of its controlling terminal; 0: none."""
    foreground: bool


def _terminal_of(proc_fd: int, pid: int) -> _Terminal | None:
    """None where it is gone, or hidden."""
    try:
        data = read_pid_file(proc_fd, pid, "stat", denied=b"") or b""
        begin, end = data.find(b" ("), data.rfind(b") ")
        _, _, group, _, tty, foreground, *_ = data[end + 2 :].split(None, 6)
        comm = decode_name(data[begin + 2 : end])
        return _Terminal(comm, int(tty), int(tty) != 0 and int(foreground) == int(group))
    except (OSError, ValueError):
        return None


def _read_values(path: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in _read(path).splitlines() if "=" in line)


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return os.read(fd, _MOST_BYTES).decode("utf-8", "replace")
        finally:
            os.close(fd)
    except OSError:
        return ""
