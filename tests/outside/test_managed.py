"""The listener for units' settings, on sockets of our own that speak as PID 1 and users' managers do, byte by byte."""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oomd.outside.managed import MOST_OF_ONE, ManagedListener, Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 90.0
WORK = {"mode": "kill", "path": "/work.slice", "property": "ManagedOOMMemoryPressure", "limit": 858993459}
ROOT = {"mode": "kill", "path": "/", "property": "ManagedOOMSwap"}
SHOWN = "ControlGroup=/shown.slice\nManagedOOMSwap=kill\n"


class Manager:
    """PID 1's end."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(PATIENCE_S)
        self.peer: socket.socket | None = None

    def accept(self) -> dict[str, Any]:
        """The subscriber's call."""
        self.peer, _ = self._listener.accept()
        self.peer.settimeout(PATIENCE_S)
        data = b""
        while not data.endswith(b"\0"):
            data += self.peer.recv(4096)
        call: dict[str, Any] = json.loads(data[:-1])
        return call

    def say(self, *cgroups: dict[str, Any]) -> None:
        """A reply after which there will be more."""
        assert self.peer is not None
        self.peer.sendall(json.dumps({"parameters": {"cgroups": cgroups}, "continues": True}).encode() + b"\0")

    def close(self) -> None:
        """Hang up and go."""
        self._listener.close()
        if self.peer is not None:
            self.peer.close()


class Stage:
    """A listener with what it sent and said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sent: list[Any] = []
        self.said: list[str] = []
        self.taken = 0
        self.listener: ManagedListener | None = None
        (folder / "cgroup/mine").mkdir(parents=True)
        (folder / "cgroup/other").mkdir()

    def start(self, mode: str = "takeover", *, listen_fd: int = -1) -> None:
        """Build it; nothing happens before the first step."""
        show = (sys.executable, "-c", f"print({SHOWN!r})")
        sources = Sources(
            (str(self.folder / "misspelt"), str(self.folder / "manager")),
            str(self.folder / "users"),
            str(self.folder / "cgroup"),
            show,
        )
        self.listener = ManagedListener(
            mode, self.sent.append, self.said.append, listen_fd=listen_fd, sources=sources, on_taken=self._count
        )

    def _count(self) -> None:
        self.taken += 1

    def until(self, true: Callable[[], object]) -> None:
        """Step until that holds."""
        assert self.listener is not None
        end = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < end, (self.sent, self.said)
            self.listener.step(0.05)

    @property
    def units(self) -> list[Any]:
        """Paths and limits as last sent."""
        return [] if not self.sent else [(unit[0], unit[1], unit[2]) for unit in self.sent[-1]["units"]]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Without a listener yet."""
    stage = Stage(tmp_path)
    yield stage
    if stage.listener is not None:
        stage.listener.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """PID 1 listens."""
    manager = Manager(tmp_path / "manager")
    yield manager
    manager.close()


def test_subscription(stage: Stage, manager: Manager) -> None:
    """One call for as many replies as there will be; the first is all that there is, each later one is news."""
    stage.start()
    assert stage.listener is not None
    stage.listener.step(0)
    assert manager.accept() == {"method": "io.systemd.ManagedOOM.SubscribeManagedOOMCGroups", "more": True}
    assert stage.taken == 0
    manager.say(WORK)
    stage.until(lambda: stage.units)
    assert stage.taken == 1
    assert stage.sent == [
        {"command": "managed", "units": [["/work.slice", False, True, pytest.approx(0.2, abs=1e-6), None]]}
    ]
    manager.say(ROOT, {**WORK, "duration": 3_000_000})
    stage.until(lambda: len(stage.units) == 2)
    assert stage.sent[-1]["units"][1][4] == 3_000_000
    manager.say({**WORK, "mode": "auto"})
    stage.until(lambda: stage.units == [("/", True, False)])
    assert stage.said == ["units' own settings are told by PID 1"]


def test_nothing_new_is_not_sent(stage: Stage, manager: Manager) -> None:
    """The same once more costs the killer nothing; an empty list at the first time is news."""
    stage.start()
    assert stage.listener is not None
    stage.listener.step(0)
    manager.accept()
    assert stage.sent == []
    manager.say()
    stage.until(lambda: stage.sent)
    assert stage.sent == [{"command": "managed", "units": []}]
    manager.say({**WORK, "property": "OOMRules", "rules": []}, "nonsense", {"property": "OOMRules", "rules": 1})  # type: ignore[arg-type]
    manager.say({**WORK, "property": "OOMRules", "rules": ["x"]})
    manager.say({**WORK, "property": "OOMRules", "rules": ["x", "y"]})
    manager.say(ROOT)
    stage.until(lambda: stage.units)
    assert len(stage.sent) == 2
    assert [text for text in stage.said if text.startswith("OOMRules= of /work.slice is not honoured")] == stage.said[
        1:
    ]
    assert len(stage.said) == 2


def test_pid_1_executes_itself_anew(stage: Stage, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it said holds until it has said something else, all of which then takes the place of all before."""
    monkeypatch.setattr("oomd.outside.managed.RETRY_S", 0.0)
    stage.start()
    assert stage.listener is not None
    stage.listener.step(0)
    manager.accept()
    manager.say(WORK)
    stage.until(lambda: stage.units)
    assert manager.peer is not None
    manager.peer.close()
    stage.listener.step(1)  # hears the end
    stage.listener.step(0)  # calls again
    manager.accept()
    assert stage.units == [("/work.slice", False, True)]
    manager.say(ROOT)
    stage.until(lambda: stage.units == [("/", True, False)])


@pytest.mark.parametrize(
    "answer", [b'{"error":"io.systemd.ManagedOOM.SubscriptionTaken","parameters":{}}\0', b"nonsense\0"]
)
@pytest.mark.parametrize("mode", ["takeover", "auto"])
def test_refused(stage: Stage, manager: Manager, mode: str, answer: bytes) -> None:
    """A subscription that is taken, or not ours to have, is said once; with ``auto`` systemctl is asked instead."""
    stage.start(mode)
    assert stage.listener is not None
    stage.listener.step(0)
    manager.accept()
    assert manager.peer is not None
    manager.peer.sendall(answer)
    if mode == "auto":
        stage.until(lambda: stage.units == [("/shown.slice", True, False)])
        assert "looked up every 10 s" in stage.said[0]
    else:
        stage.until(lambda: stage.said)
        assert "is this systemd-oomd.service?" in stage.said[0]
        assert stage.sent == []
    assert len(stage.said) == 1


@pytest.mark.parametrize("mode", ["poll", "auto"])
def test_polling(stage: Stage, mode: str) -> None:
    """Without anybody who tells, systemctl is asked."""
    stage.start(mode)
    stage.until(lambda: stage.units == [("/shown.slice", True, False)])


def test_systemctl_fails(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is said, and what the killer has is left alone."""
    monkeypatch.setattr("tests.outside.test_managed.SHOWN", "")
    stage.start("poll")
    assert stage.listener is not None
    stage.listener._sources = Sources(show=("/nonexistent/systemctl",))
    stage.until(lambda: stage.said)
    assert "cannot be looked up" in stage.said[0]
    assert stage.sent == []


def report(
    *cgroups: dict[str, Any], oneway: bool = True, method: str = "io.systemd.oom.ReportManagedOOMCGroups"
) -> bytes:
    """A user manager's call."""
    call = {"method": method, "parameters": {"cgroups": cgroups}, **({"oneway": True} if oneway else {})}
    return json.dumps(call).encode() + b"\0"


def user(stage: Stage) -> socket.socket:
    """A user's manager connects."""
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(str(stage.folder / "users"))
    stream.settimeout(PATIENCE_S)
    return stream


def test_users_managers_report(stage: Stage, manager: Manager) -> None:
    """Everybody may connect, and speaks for as long as the connection holds; what is called and not known is said."""
    stage.start()
    assert stat.S_IMODE(os.stat(stage.folder / "users").st_mode) == 0o666
    with user(stage) as stream:
        stream.sendall(report({**WORK, "path": "/mine"}))
        stage.until(lambda: stage.units == [("/mine", False, True)])
        stream.sendall(report({**WORK, "path": "/mine", "mode": "auto"}, oneway=False))
        stage.until(lambda: not stage.units)
        assert stream.recv(100) == b'{"parameters":{}}\0'
        stream.sendall(report(method="a.b.C", oneway=False))
        stage.until(lambda: len(stage.sent) == 2)
        assert stage.listener is not None
        stage.listener.step(1)
        assert b"MethodNotFound" in stream.recv(200)
        stream.sendall(report({**WORK, "path": "/mine"}))
        stage.until(lambda: stage.units)
    stage.until(lambda: not stage.units)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
def test_a_user_speaks_for_his_own(stage: Stage, manager: Manager) -> None:
    """Who speaks is told by the kernel: somebody else's cgroup is not his to speak for."""
    stage.start()
    os.chmod(stage.folder, 0o755)
    os.chown(stage.folder / "cgroup/other", 4711, 4711)
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(stage.folder)  # the folders above it are nobody else's to walk through
            os.setresuid(4711, 4711, 4711)
            stage.folder = Path()
            with user(stage) as stream:
                stream.sendall(report({**WORK, "path": "/mine"}, {**WORK, "path": "/other"}))
                stream.recv(1)  # until the other end is closed
        finally:
            os._exit(0)
    stage.until(lambda: stage.units)
    assert stage.units == [("/other", False, True)]
    assert stage.listener is not None
    stage.listener.close()
    stage.listener = None
    os.waitpid(pid, 0)


def test_nobody_takes_all_connections(stage: Stage, manager: Manager) -> None:
    """One user has a few connections, no more; nonsense ends one."""
    stage.start()
    streams = [user(stage) for _ in range(MOST_OF_ONE + 1)]
    assert stage.listener is not None
    for _ in streams:
        stage.listener.step(1)
    assert streams[-1].recv(1) == b""
    streams[0].sendall(b"nonsense\0")
    stage.listener.step(1)
    assert streams[0].recv(1) == b""
    streams[1].sendall(b'{"method":"io.systemd.oom.ReportManagedOOMCGroups","parameters":3}\0')
    stage.listener.step(1)
    assert b"InvalidParameter" in streams[1].recv(200)
    for stream in streams:
        stream.close()


def test_passed_socket(stage: Stage, manager: Manager) -> None:
    """A listening socket that systemd has passed is taken as it is."""
    passed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    passed.bind(str(stage.folder / "users"))
    passed.listen()
    stage.start(listen_fd=passed.detach())
    with user(stage) as stream:
        stream.sendall(report({**WORK, "path": "/mine"}))
        stage.until(lambda: stage.units)
