"""systemd-oomd's interface on a real message bus, with the policy that is installed."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jeepney import DBusAddress, new_method_call
from jeepney.io.blocking import open_dbus_connection

from oomd.model.managed import ManagedOptions, ManagedUnit, plain_managed
from oomd.outside.dbus import Bus, BusError
from oomd.outside.oom1 import INTERFACE, MOST_REMEMBERED, NAME, PATH, Oom1, reason_of
from tests.fakes.cgroup_tree import CgroupTree
from tests.outside.bus import OwnBus, running_bus
from tests.outside.events import DECISION, OUTCOME
from tests.outside.test_oomctl import STATUS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

UNITS = (ManagedUnit("/work.slice", pressure=True, limit=0.2),)
ANSWER = {"status": STATUS, "managed": plain_managed(ManagedOptions(), UNITS)}


@pytest.fixture
def bus() -> Iterator[OwnBus]:
    """Everybody can reach it."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        with running_bus(Path(name)) as bus:
            yield bus


def wait_for_name(bus: OwnBus) -> None:
    """Until it answers."""
    while bus.busctl("call", NAME, PATH, "org.freedesktop.DBus.Peer", "Ping").returncode:
        pass


def oom1(bus: OwnBus, root: Path, answer: dict[str, Any] | None = ANSWER) -> Oom1:
    """One whose killer answers so."""
    return Oom1(lambda question: answer if question == "status" else None, print, str(root), bus.address)


def test_nobody_speaks_before_the_place_is_taken(bus: OwnBus, tmp_path: Path) -> None:
    """systemd-oomd may be there itself."""
    with closing(oom1(bus, tmp_path)) as one:
        one.hear({"event": "decision", "id": "1", "decision": {"target": None, "ruleset": None}})
        assert bus.busctl("status", NAME).returncode != 0
    with closing(oom1(bus, tmp_path)) as one:
        one.take_over()
        one.take_over()
        wait_for_name(bus)
        assert INTERFACE in bus.busctl("introspect", NAME, PATH).stdout


def fetch(bus: OwnBus) -> str:
    """What oomctl would print, by another client than ours."""
    with open_dbus_connection(bus.address, enable_fds=True) as connection:
        address = DBusAddress(PATH, NAME, INTERFACE)
        reply = connection.send_and_get_reply(new_method_call(address, "DumpByFileDescriptor"), timeout=120)
        (file,) = reply.body
        with file.to_file("r", encoding="utf-8") as text:
            return str(text.read())


def test_dump(bus: OwnBus, tmp_path: Path) -> None:
    """A descriptor of the text, for root and for everybody; the second one knows the pages that the first one saw."""
    CgroupTree(tmp_path).add_group("/work.slice", pgscan=5)
    with closing(oom1(bus, tmp_path)) as one:
        one.take_over()
        wait_for_name(bus)
        for last in (0, 5):
            text = fetch(bus)
            assert "\tPath: /work.slice\n\t\tMemory Pressure Limit: 20.00%\n" in text
            assert f"Last Pgscan: {last}\n" in text
        if os.geteuid() == 0:
            done = bus.busctl("call", NAME, PATH, INTERFACE, "DumpByFileDescriptor", user=65534)
            assert done.stdout.startswith("h "), done.stderr


def test_killer_that_does_not_answer(bus: OwnBus, tmp_path: Path) -> None:
    """It is busy killing: said, and nothing else is affected."""
    with closing(oom1(bus, tmp_path, None)) as one:
        one.take_over()
        wait_for_name(bus)
        with Bus(bus.address) as client, pytest.raises(BusError, match="the killer did not answer in time"):
            client.call(NAME, PATH, INTERFACE, "DumpByFileDescriptor", timeout_s=90)


def test_only_root_speaks_in_its_name(bus: OwnBus) -> None:
    """Everybody else is refused by the bus, and may ask for nothing but the dump."""
    if os.geteuid() != 0:
        pytest.skip("needs another user")
    words = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName", "su", NAME, "0")
    assert "denied" in bus.busctl("call", *words, user=65534).stderr
    assert bus.busctl("call", *words).stdout == "u 1\n"


class Recorded:
    """A station that keeps what is emitted."""

    def __init__(self) -> None:
        self.signals: list[tuple[object, ...]] = []

    def emit(self, signal: str, *body: object) -> bool:
        """Kept."""
        self.signals.append((signal, *body))
        return True


def decision(identity: str, ruleset: str, cgroup: str, **more: Any) -> dict[str, Any]:
    """One that chose somebody there."""
    decided = {**DECISION["decision"], "ruleset": ruleset, "target": {"cgroup": cgroup}}
    return {**DECISION, "id": identity, "decision": decided, **more}


def test_kills_are_told(tmp_path: Path) -> None:
    """Once for each decision that cost a life, with its cgroup and systemd-oomd's word for the reason; not before that,
    nor for what was no kill, nor in a dry run.
    """
    one, told = Oom1(lambda _: None, print, str(tmp_path)), Recorded()
    one._station = told  # type: ignore[assignment]
    one.hear(decision("1", "systemd: swap", "/a"))
    one.hear(decision("2", "systemd: /work.slice", "/work.slice/b"))
    one.hear(decision("3", "level", "/c"))
    one.hear(decision("4", "level", "/d", dry_run=True))
    one.hear({**DECISION, "id": "5", "decision": {**DECISION["decision"], "target": None}})
    assert told.signals == []
    for identity, status in (
        ("1", "killed"),
        ("2", "exited"),
        ("3", "not_permitted"),
        ("4", "dry_run"),
        ("1", "killed"),
    ):
        one.hear({**OUTCOME, "id": identity, "status": status})
    one.hear({"event": "note", "text": "x"})
    assert told.signals == [("Killed", "/a", "memory-used"), ("Killed", "/work.slice/b", "memory-pressure")]
    for number in range(2 * MOST_REMEMBERED):
        one.hear(decision(f"n{number}", "level", "/e"))
    assert len(one._decisions) == MOST_REMEMBERED


def test_reasons() -> None:
    """A rule of our own is called by its name."""
    assert reason_of("level") == "level"
    assert reason_of("") == ""
