"""A notice on the victim's owner's desktop: a real bus of that user's own, and a real listener."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from oomd.outside import desktop as module
from oomd.outside.desktop import CRITICAL, FOR_EVER, NORMAL, Desktop
from tests.descriptors import open_descriptors, opened_since
from tests.outside.events import DECISION
from tests.outside.test_low_memory import NOBODY, PATIENCE_S, PYTHON, has_glib, open_folder, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oomd.model.report import Plain

__all__ = ["open_folder"]
pytestmark = pytest.mark.integration
SHOWS = (Path(__file__).parent / "glib_desktop.py").read_text(encoding="utf-8")
USERS = [os.geteuid(), *([NOBODY] if os.geteuid() == 0 else [])]
"""Ourselves, and, as root, somebody else."""


@contextmanager
def logged_in(folder: Path, uid: int, *words: str, shows: bool = True) -> Iterator[subprocess.Popen[str] | None]:
    """A user with a message bus in a folder that nobody else may enter, and with a desktop, if it ``shows``."""
    if not has_glib() or shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon or python3-gi is not installed; make test installs them")
    own = folder / str(uid)
    own.mkdir(mode=0o700)
    user = None if uid == os.geteuid() else uid
    if user is not None:
        os.chown(own, uid, uid)
    address = f"unix:path={own}/bus"
    command = ["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address", f"--address={address}"]
    bus = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, user=user, group=user, cwd="/")
    assert bus.stdout is not None
    assert bus.stdout.readline().startswith("unix:")
    listener = None
    if shows:
        env = {"PATH": "/usr/bin", "DBUS_SESSION_BUS_ADDRESS": address}
        listener = subprocess.Popen(
            [PYTHON, "-c", SHOWS, *words],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=user,
            cwd="/",
        )
        assert read(listener) == "shows"
    try:
        yield listener
    finally:
        if listener is not None:
            listener.communicate(timeout=PATIENCE_S)
        bus.kill()
        bus.communicate()


def decision(uid: int, **changes: Any) -> Plain:
    """A decision whose victim is this user's."""
    target = {**DECISION["decision"]["target"], "uid": uid, **changes}
    return {**DECISION, "decision": {**DECISION["decision"], "target": target}}


@pytest.mark.parametrize("uid", USERS)
def test_owner_sees_it(open_folder: Path, uid: int) -> None:
    """Title, words without marks of HTML, and urgency; it stays in the history. No right of ours is lost by that."""
    said: list[str] = []
    with logged_in(open_folder, uid) as listener:
        assert listener is not None
        Desktop(said.append, str(open_folder))(decision(uid, comm="<b>&"))
        shown = json.loads(read(listener))
    assert shown[0] == "oomd"
    assert shown[3:5] == ["Out of memory", "&lt;b&gt;&amp; (7) was ended; it gives back 500 MiB."]
    assert shown[6]["urgency"] == CRITICAL
    assert shown[7] == FOR_EVER
    assert said == []
    assert os.geteuid() == USERS[0]


def test_a_warning_is_less_urgent(open_folder: Path) -> None:
    """Nothing is lost yet."""
    event = decision(USERS[0])
    event["decision"] |= {"action": "notify", "step": 0, "step_us": 0}
    with logged_in(open_folder, USERS[0]) as listener:
        assert listener is not None
        Desktop(lambda text: None, str(open_folder))(event)
        assert json.loads(read(listener))[6]["urgency"] == NORMAL


@pytest.mark.parametrize("uid", USERS)
def test_nobody_is_woken_for_it(open_folder: Path, uid: int) -> None:
    """Not logged in, or logged in without a desktop: no program is started for a notice, and nothing is said."""
    said: list[str] = []
    desktop = Desktop(said.append, str(open_folder))
    desktop(decision(uid))
    with logged_in(open_folder, uid, shows=False):
        desktop(decision(uid))
    assert said == []


def test_bus_that_is_gone_is_told_once(open_folder: Path) -> None:
    """Its socket is left, nobody answers."""
    said: list[str] = []
    desktop = Desktop(said.append, str(open_folder))
    with logged_in(open_folder, USERS[0], shows=False):
        pass
    assert (open_folder / str(USERS[0]) / "bus").exists()
    for _ in range(2):
        desktop(decision(USERS[0]))
    (text,) = said
    assert text.startswith(f"tell.desktop: uid {USERS[0]} was not told: unix:path=")


def test_desktop_that_hangs_is_given_up(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes the notice and never answers."""
    monkeypatch.setattr(module, "CALL_S", 0.3)
    said: list[str] = []
    before = open_descriptors()
    with logged_in(open_folder, USERS[0], "hang") as listener:
        assert listener is not None
        desktop = Desktop(said.append, str(open_folder))
        begin = time.monotonic()
        desktop(decision(USERS[0]))
        assert time.monotonic() - begin < PATIENCE_S / 2
        assert json.loads(read(listener))[0] == "oomd"
    assert said == [f"tell.desktop: uid {USERS[0]} was not told: Notify: no answer within 0.3 s"]
    assert opened_since(before) == []


def test_only_so_many_hang_at_a_time(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a bus that swallows everything holds up neither others for ever nor our threads."""
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    monkeypatch.setattr(module, "MOST_AT_ONCE", 2)
    gate, running = threading.Event(), []

    def hang(*_: object) -> None:
        running.append(threading.get_ident())
        gate.wait()

    monkeypatch.setattr(module, "show", hang)
    desktop = Desktop(lambda text: None, str(open_folder))
    (open_folder / str(USERS[0])).mkdir()
    (open_folder / str(USERS[0]) / "bus").touch()
    for _ in range(5):
        desktop(decision(USERS[0]))
    end = time.monotonic() + PATIENCE_S
    while len(running) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    gate.set()
    assert len(running) == 2


def test_what_is_missing_is_told_at_the_start(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that hides users' folders, or does not let us act as they."""
    with pytest.raises(FileNotFoundError):
        Desktop(lambda text: None, f"{open_folder}/absent")
    monkeypatch.setattr(module, "_may_change_user", lambda: False)
    if os.geteuid() == 0:
        with pytest.raises(PermissionError, match="CAP_SETUID is missing"):
            Desktop(lambda text: None, str(open_folder))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may be anybody")
def test_others_are_not_told_by_a_user(open_folder: Path) -> None:
    """An oomd of a user's own tells that user."""
    said: list[str] = []
    Desktop(said.append, str(open_folder))(decision(NOBODY))
    assert said == []
