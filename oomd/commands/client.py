"""The other end of the control socket, for commands: finds the daemon, asks, says in words what is wrong."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from oomd.commands.run import default_runtime_dir
from oomd.kernel.acl import granted_groups
from oomd.outside.desk import PATIENCE_S, USUAL_PATIENCE_S
from oomd.outside.doorway import NAME, address_of
from oomd.outside.lines import NO_ANSWER, NOT_PERMITTED, TOO_MANY, VERSION
from oomd.outside.peers import group_name, user_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from oomd.model.report import Plain

DONE, REFUSED, NO_DAEMON, DENIED, SILENT = 0, 1, 3, 4, 5
"""Exit statuses: done; the daemon said no (nobody was chosen, the file is wrong, it is not paused); no daemon there, or
several; not permitted; it does not answer. 2 is a mistake in what was written, as everywhere.
"""
STATUSES = (
    "Exit status: 0 done, 1 the daemon said no, 2 a mistake, 3 no daemon (or several), 4 not permitted, 5 no answer."
)
OTHER_PLACES = ("/run/oomd", "/run/oomd-lmkd")
"""Where units keep their runtime directories."""
MARGIN_S = 5.0
"""Beyond what the daemon itself allows for an answer."""
MOST_ANSWER_BYTES = 4 << 20
_ERRORS = {NOT_PERMITTED: DENIED, NO_ANSWER: SILENT, TOO_MANY: SILENT}


class Failure(Exception):  # noqa: N818 - a state of the world, told to people
    """There is no answer; the message says why."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Connection:
    """A daemon that answers."""

    def __init__(self, stream: socket.socket, directory: str) -> None:
        self.directory = directory
        self._stream = stream
        self._rest = b""

    def ask(self, request: str, **parameters: object) -> Plain:
        """The answer, whatever it is. Raises Failure where there is none."""
        line = json.dumps({"version": VERSION, "request": request, **parameters}).encode() + b"\n"
        self._stream.settimeout(PATIENCE_S.get(request, USUAL_PATIENCE_S) + MARGIN_S)
        try:
            with suppress(BrokenPipeError):  # hung up: its last words say why
                self._stream.sendall(line)
            answer = self._read_line()
        except ConnectionResetError:
            answer = {}
        except TimeoutError:
            raise Failure(f"{self.directory}/{NAME}: no answer in time", SILENT) from None
        except OSError as error:
            raise Failure(f"{self.directory}/{NAME}: {error.strerror or error}", SILENT) from None
        if not answer:
            raise Failure(f"{self.directory}/{NAME}: hung up without an answer", SILENT)
        return answer

    def must(self, request: str, **parameters: object) -> Plain:
        """The answer, which is a yes. Raises Failure for a no."""
        answer = self.ask(request, **parameters)
        if answer.get("ok") is not True:
            raise refusal_of(answer)
        return answer

    def close(self) -> None:
        """Hang up."""
        self._stream.close()

    def _read_line(self) -> Plain:
        while b"\n" not in self._rest:
            data = self._stream.recv(1 << 16)
            if not data or len(self._rest) > MOST_ANSWER_BYTES:
                return {}
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Failure(f"{self.directory}/{NAME}: does not speak as oomd does", SILENT)
        return answer


def refusal_of(answer: Plain) -> Failure:
    """A no in words."""
    return Failure(str(answer.get("text", "")), _ERRORS.get(answer.get("error", ""), REFUSED))


def add_runtime_dir(parser: argparse.ArgumentParser) -> None:
    """``--runtime-dir``."""
    parser.epilog = STATUSES
    parser.add_argument("--runtime-dir", metavar="DIR", help="of the daemon that is meant (default: the one that runs)")


def fail(failure: Failure) -> int:
    """Say it; returns the exit status."""
    print(f"oomd: {failure}", file=sys.stderr)
    return failure.status


@contextmanager
def daemon(runtime_dir: str | None) -> Iterator[Connection]:
    """The daemon with this runtime directory, or the one that runs. Raises Failure."""
    connection = _find([runtime_dir] if runtime_dir else list(dict.fromkeys((default_runtime_dir(), *OTHER_PLACES))))
    try:
        yield connection
    finally:
        connection.close()


def _find(places: list[str]) -> Connection:
    found, denied = _try_all(places)
    if len(found) == 1:
        return found[0]
    for connection in found:
        connection.close()
    if found:
        running = ", ".join(f"{each.directory} (pid {holder(each.directory) or '?'})" for each in found)
        raise Failure(f"several daemons run: {running}; say which one with --runtime-dir", NO_DAEMON)
    if denied:
        raise Failure(_who_may(denied[0]), DENIED)
    for place in places:
        pid = holder(place)
        if pid:
            raise Failure(
                f"the daemon in {place} (pid {pid}) has no control socket: it is switched off (control.enabled),"
                " or its outside process has ended and is started again when memory is calm",
                SILENT,
            )
    looked = ", ".join(f"{place}/{NAME}" for place in places)
    raise Failure(f"no daemon found: nobody listens at {looked}; --runtime-dir says where else", NO_DAEMON)


def _try_all(places: list[str]) -> tuple[list[Connection], list[str]]:
    """Those that answer the call, and places where one is not let in."""
    found: list[Connection] = []
    denied: list[str] = []
    for place in places:
        try:
            found.append(_connect(place))
        except PermissionError:
            denied.append(place)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            continue
        except OSError as error:
            raise Failure(f"{place}/{NAME}: {error.strerror or error}", SILENT) from None
    return found, denied


def _connect(place: str) -> Connection:
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        stream.settimeout(MARGIN_S)
        with address_of(f"{place}/{NAME}") as address:
            stream.connect(address)
    except TimeoutError:
        stream.close()
        raise OSError(errno.ETIMEDOUT, "nobody takes the call") from None
    except BaseException:
        stream.close()
        raise
    return Connection(stream, place)


def holder(place: str) -> int:
    """The pid of the daemon that holds this runtime directory; 0 where none does."""
    try:
        with open(f"{place}/lock", encoding="ascii", errors="replace") as file:
            pid = file.read(16).strip()
        with open(f"/proc/{int(pid)}/comm", "rb") as file:
            return int(pid) if file.read().strip() == b"oomd" else 0
    except (OSError, ValueError):
        return 0


def _who_may(place: str) -> str:
    """Whose the socket is, and which groups may connect."""
    path = f"{place}/{NAME}"
    me = f"uid {os.geteuid()} ({user_name(os.geteuid()) or 'without a name'})"
    try:
        found: Any = os.stat(path)
    except OSError:
        return f"not permitted: {me} may not look into {place}"
    groups = [*granted_groups(path)] or ([found.st_gid] if found.st_mode & 0o020 else [])
    members = " and members of the group " + ", ".join(group_name(gid) for gid in groups) if groups else ""
    owner = user_name(found.st_uid) or f"uid {found.st_uid}"
    hint = "" if groups else "; control: {group: NAME} in its configuration lets a group read"
    return f"not permitted: {path} is for {owner}{members}, and this is {me}{hint}"
