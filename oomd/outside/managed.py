"""Hears units' own settings and hands them to the killer: from PID 1, from users' managers, or by looking.

One thread with one selector. Whatever goes wrong here leaves the killer with the settings that it has; a user's manager
can take no more than its own few entries, one buffer and two connections.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

from oomd.model.managed import AUTO, MOST_UNITS, POLL, TAKEOVER, plain_units
from oomd.model.values import dataclass
from oomd.outside import varlink
from oomd.outside.settings import SHOWN, SYSTEM, Settings, parse_show, rules_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from oomd.model.report import Plain

SUBSCRIBE = "io.systemd.ManagedOOM.SubscribeManagedOOMCGroups"
REPORT = "io.systemd.oom.ReportManagedOOMCGroups"
MANAGERS = ("/run/systemd/io.systemd.ManagedOOM", "/run/systemd/io.system.ManagedOOM")
"""PID 1's socket; 249 to 252 misspelt it."""
USERS = "/run/systemd/oom/io.systemd.ManagedOOM"
"""Where users' managers report."""
RETRY_S = 5.0
POLL_S = 10.0
ASK_TIMEOUT_S = 30.0
MOST_USERS = 64
MOST_OF_ONE = 2
"""Connections of one user."""
USER_BYTES = 64 * 1024
"""Of a message of a user's manager."""
_PEER = struct.Struct("3i")
"""struct ucred: pid, uid, gid; unix(7)."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where things are; a test has its own."""

    managers: tuple[str, ...] = MANAGERS
    users: str = USERS
    cgroup_root: str = "/sys/fs/cgroup"
    show: tuple[str, ...] = ("systemctl", "show", f"--property={','.join(SHOWN)}", "*.slice", "*.service", "*.scope")


@dataclass(slots=True)
class _User:
    """A connection of a user's manager."""

    connection: varlink.Connection
    uid: int


class ManagedListener:
    """Tells the killer of units' settings, all of them whenever one has changed."""

    def __init__(
        self,
        mode: str,
        send: Callable[[Plain], object],
        say: Callable[[str], object],
        *,
        listen_fd: int = -1,
        sources: Sources | None = None,
        on_taken: Callable[[], object] = lambda: None,
    ) -> None:
        """``send`` puts a message on the link, ``say`` tells people something. ``listen_fd``: a listening socket that
        systemd passed, or -1. ``on_taken``: called whenever PID 1 takes us for systemd-oomd.
        """
        self._mode = mode
        self._send = send
        self._say = say
        self._sources = sources or Sources()
        self._on_taken = on_taken
        self._settings = Settings()
        self._selector = selectors.DefaultSelector()
        self._manager: varlink.Connection | None = None
        self._fresh = True
        """The next reply of PID 1 is its whole list, not news."""
        self._polling = mode == POLL
        self._next_s = 0.0
        self._sent: list[list[Any]] | None = None
        self._said = ""
        self._with_rules: set[str] = set()
        """Units of which it was told that their OOMRules= has no effect."""
        self._users: dict[int, _User] = {}
        self._listener = None if mode == POLL else self._listen(listen_fd)

    def start(self) -> None:
        """Begin, in a thread of its own that ends with the process."""
        threading.Thread(target=self._run, name="managed", daemon=True).start()

    def step(self, timeout_s: float | None = None) -> None:
        """Wait for one event (or the next retry or poll) and take it."""
        self._act_in_time()
        wait_s = max(0.0, self._next_s - time.monotonic()) if self._waits_for_time() else None
        if timeout_s is not None:
            wait_s = timeout_s if wait_s is None else min(wait_s, timeout_s)
        for key, _ in self._selector.select(wait_s):
            if key.data == "listener":
                self._accept()
            elif key.data == "manager":
                self._hear_manager()
            elif key.data in self._users:
                self._hear_user(key.data)
        self._tell()

    def close(self) -> None:
        """Hang up everywhere."""
        for fd in list(self._users):
            self._drop_user(fd)
        if self._manager is not None:
            self._drop_manager()
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
        self._selector.close()

    def _run(self) -> None:
        while True:
            self.step()

    def _waits_for_time(self) -> bool:
        return self._polling or self._manager is None

    def _act_in_time(self) -> None:
        if not self._waits_for_time() or time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + (POLL_S if self._polling else RETRY_S)
        if self._polling:
            self._ask()
        else:
            self._subscribe()

    def _subscribe(self) -> None:
        for path in self._sources.managers:
            try:
                connection = varlink.connect(path)
            except OSError:
                continue
            try:
                connection.call(SUBSCRIBE, more=True)
            except OSError:
                connection.close()
                continue
            self._manager, self._fresh = connection, True
            self._selector.register(connection, selectors.EVENT_READ, "manager")
            return
        self._give_up(f"nobody listens at {self._sources.managers[0]}")

    def _hear_manager(self) -> None:
        assert self._manager is not None
        try:
            replies = self._manager.receive()
            for reply in replies or []:
                parameters = varlink.parameters_of(reply)
                if self._fresh:
                    self._settings.forget(SYSTEM)
                    self._fresh = False
                    self._once("units' own settings are told by PID 1")
                    self._on_taken()
                self._settings.hear(SYSTEM, parameters.get("cgroups"))
                self._tell_rules(parameters.get("cgroups"))
        except (OSError, varlink.VarlinkError) as error:
            self._drop_manager()
            self._give_up(str(error))
        else:
            if replies is None:  # it executes itself anew: what it said holds until it says something else
                self._drop_manager()
                self._next_s = time.monotonic() + RETRY_S

    def _give_up(self, why: str) -> None:
        """PID 1 tells nothing: look for oneself where that is allowed, else try again later."""
        if self._mode == AUTO:
            self._polling = True
            self._next_s = 0.0
            self._once(f"units' own settings are looked up every {POLL_S:.0f} s: PID 1 does not tell them ({why})")
        else:
            self._once(f"PID 1 does not tell units' own settings: {why}; is this systemd-oomd.service?")

    def _ask(self) -> None:
        try:
            done = subprocess.run(
                self._sources.show, capture_output=True, text=True, errors="replace", timeout=ASK_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self._once(f"units' own settings cannot be looked up: {error}")
            return
        if done.returncode != 0:
            self._once(f"units' own settings cannot be looked up: {done.stderr.strip()[:200]}")
            return
        self._settings.replace(SYSTEM, parse_show(done.stdout))

    def _drop_manager(self) -> None:
        assert self._manager is not None
        self._selector.unregister(self._manager)
        self._manager.close()
        self._manager = None

    def _listen(self, listen_fd: int) -> socket.socket | None:
        """The socket that users' managers report to: systemd's, or one of our own where its folder is there."""
        try:
            if listen_fd >= 0:
                listener = socket.socket(fileno=listen_fd)
            else:
                if not os.path.isdir(os.path.dirname(self._sources.users)):
                    return None
                listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._sources.users)
                listener.bind(self._sources.users)
                os.chmod(self._sources.users, 0o666)  # noqa: S103 - for every user: who speaks is checked
                listener.listen(MOST_USERS)
            listener.setblocking(False)
        except OSError as error:
            self._once(f"{self._sources.users}: {error.strerror or error}; users' managers cannot report")
            return None
        self._selector.register(listener, selectors.EVENT_READ, "listener")
        return listener

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            stream, _ = self._listener.accept()
        except OSError:
            return
        _, uid, _ = _PEER.unpack(stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        of_one = sum(user.uid == uid for user in self._users.values())
        if len(self._users) >= MOST_USERS or of_one >= MOST_OF_ONE:
            stream.close()
            return
        stream.setblocking(False)
        user = _User(varlink.Connection(stream, USER_BYTES), uid)
        self._users[stream.fileno()] = user
        self._selector.register(stream.fileno(), selectors.EVENT_READ, stream.fileno())

    def _hear_user(self, fd: int) -> None:
        user = self._users[fd]
        try:
            calls = user.connection.receive()
            for call in calls or []:
                self._answer(fd, user, call)
        except (OSError, varlink.VarlinkError):
            calls = None
        if calls is None:
            self._drop_user(fd)

    def _answer(self, fd: int, user: _User, call: varlink.Message) -> None:
        """Take a report. Raises OSError when the answer cannot be sent."""
        reply: varlink.Message = {"parameters": {}}
        if call.get("method") != REPORT:
            reply = {"error": varlink.METHOD_NOT_FOUND, "parameters": {"method": call.get("method")}}
        elif not isinstance(call.get("parameters"), dict):
            reply = {"error": varlink.INVALID_PARAMETER, "parameters": {"parameter": "cgroups"}}
        else:
            self._settings.hear(fd, call["parameters"].get("cgroups"), user.uid, self._sources.cgroup_root)
        if not call.get("oneway"):
            user.connection.send(reply)

    def _drop_user(self, fd: int) -> None:
        """What it reported goes with it."""
        self._selector.unregister(fd)
        self._users.pop(fd).connection.close()
        self._settings.forget(fd)

    def _tell(self) -> None:
        units, left_out = self._settings.units()
        plain = plain_units(units)
        if self._sent is None and not plain and not self._settings.knows(SYSTEM):
            return  # nobody has spoken yet: what the killer knows from the one before us holds on
        if plain != self._sent:
            self._sent = plain
            self._send({"command": "managed", "units": plain})
            if left_out:
                self._once(f"{left_out} more units than oomd can watch have settings of their own")

    def _tell_rules(self, cgroups: object) -> None:
        """Whoever wrote them would wait for them in vain."""
        for path in rules_of(cgroups):
            if path not in self._with_rules and len(self._with_rules) < MOST_UNITS:
                self._with_rules.add(path)
                self._say(
                    f"OOMRules= of {path} is not honoured: rules of one's own are written in oomd's configuration"
                )

    def _once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)


def start_listener(
    options: dict[str, Any],
    send: Callable[[Plain], object],
    say: Callable[[str], object],
    on_taken: Callable[[], object],
) -> None:
    """Begin to hear, where the configuration asks for it. ``options``: of the outside process."""
    if options.get("managed") in (AUTO, TAKEOVER, POLL):
        fd = options.get("managed_fd", -1)
        ManagedListener(options["managed"], send, say, listen_fd=fd, on_taken=on_taken).start()
