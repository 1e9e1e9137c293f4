"""Values that are changed for a while: always put back. Plain files, real processes."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oomd.debts import put_all_back, read_debts
from oomd.kill import held
from oomd.kill.held import NO_DEBTS, Holder, Pull
from oomd.kill.throttle import Throttle
from oomd.model.units import MIB
from tests.descriptors import open_descriptors, opened_since
from tests.kill.cgroups import Site, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class Careful(Throttle):
    """Spares whom the test says."""

    def __init__(self) -> None:
        self.reason = ""

    def why_not(self, path: str, pids: Iterable[int]) -> str:  # noqa: ARG002 - whoever it is
        """As the test says."""
        return self.reason


class Stage:
    """A holder of memory.high over a site."""

    def __init__(self, folder: Path) -> None:
        self.site = Site(folder)
        self.lever = Careful()
        self.holder = Holder(self.lever, self.site.gate, self.site.proc_fd, self.site.debts, self.site.results)
        self.holder.start()
        self.count = 0

    def add(self, path: str, **values: int) -> Path:
        """A cgroup that uses 100 MiB."""
        return self.site.add(path, **{"current": 100 * MIB, **values})

    def pull(self, directory: Path, **changes: Any) -> str:
        """Ask for it; the decision's id."""
        self.count += 1
        identity = f"{self.count}"
        values: dict[str, Any] = {
            "decision_id": identity,
            "path": f"/{directory.name}",
            "directory": str(directory),
            "inode": 0,
            "at_most_s": 3600.0,
            "to": 1.0,
            "spared": {},
        }
        self.holder.pull(Pull(**(values | changes)))
        return identity

    def look(self) -> None:
        """The thread looks after what it holds, and is through with that."""
        done = threading.Event()
        self.holder.submit(self.holder.tend)
        self.holder.submit(done.set)
        assert done.wait(90)

    def told(self) -> tuple[str, str]:
        """The next result."""
        (result,) = self.site.wait()
        return result.status, result.why

    def close(self) -> None:
        """Let go of everything."""
        self.holder.stop(90)
        self.site.close()


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """A fresh one."""
    stage = Stage(folder)
    try:
        yield stage
    finally:
        stage.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A fresh one."""
    with staged(tmp_path) as stage:
        yield stage


def test_changed_and_put_back(stage: Stage) -> None:
    """Written down while it lasts; the former value stands again when it is let go of, and how long it was is told."""
    directory = stage.add("/a", high=500 * MIB)
    identity = stage.pull(directory)
    assert stage.told() == ("done", f"memory.high {100 * MIB}")
    assert text_of(directory / "memory.high") == str(100 * MIB)
    _, (debt,) = read_debts(str(stage.site.run))
    assert (debt.directory, debt.found) == (str(directory), str(500 * MIB))
    stage.holder.let_go(identity, "the alarm is over")
    (result,) = stage.site.wait()
    assert (result.status, result.why) == ("put_back", "the alarm is over")
    assert result.took_us > 0
    assert text_of(directory / "memory.high") == str(500 * MIB)
    assert not stage.site.written_down()


def test_its_time_is_over(stage: Stage) -> None:
    """By the thread itself, whatever the loop does."""
    directory = stage.add("/a")
    stage.pull(directory, at_most_s=0.05)
    done, over = stage.site.wait(2)
    assert done.status == "done"
    assert (over.status, over.why) == ("put_back", "its time is over")
    assert text_of(directory / "memory.high") == "max"


def test_let_go_before_its_turn(stage: Stage) -> None:
    """The alarm was over before the thread came to it: nothing is changed."""
    directory = stage.add("/a")
    stage.holder.let_go("1", "the alarm is over")
    stage.pull(directory)
    assert stage.told()[0] == "done"  # let go of what was never there is forgotten
    stage.holder._dropped.add("2")
    other = stage.add("/b")
    stage.pull(other)
    assert stage.told() == ("impossible", "the alarm is over")
    assert text_of(other / "memory.high") == "max"


@pytest.mark.parametrize("how", ["spared", "outside", "lever", "empty", "gone", "another", "twice"])
def test_what_cannot_be_had(stage: Stage, how: str) -> None:
    """Nothing is changed, nothing stays written down or open, and it is told why."""
    directory = stage.add("/a")
    changes: dict[str, Any] = {}
    expected = {
        "spared": "which is protected",
        "outside": "which is pid 1",
        "lever": "is looked at",
        "empty": "has no processes",
        "gone": "No such file",
        "another": "another one",
        "twice": "is held already",
    }[how]
    if how == "spared":
        changes["spared"] = {stage.site.pids(directory)[0]: "is protected"}
    elif how == "outside":
        stage.site.join(directory, 1)
    elif how == "lever":
        stage.lever.reason = "is looked at"
    elif how == "empty":
        (directory / "cgroup.procs").write_text("", "ascii")
    elif how == "gone":
        directory = directory.parent / "gone"
        changes["inode"] = 0
    elif how == "another":
        changes["inode"] = 1
    else:
        stage.pull(directory)
        assert stage.told()[0] == "done"
    before = open_descriptors()
    stage.pull(directory, **changes)
    status, why = stage.told()
    assert status == "impossible"
    assert expected in why
    assert opened_since(before) == []
    if how != "twice":
        assert text_of(stage.site.root / "a" / "memory.high") == "max"
        assert not stage.site.written_down()


def test_without_a_runtime_directory(stage: Stage) -> None:
    """What cannot be written down is not done."""
    holder = Holder(Throttle(), stage.site.gate, stage.site.proc_fd, None, stage.site.results)
    holder.start()
    directory = stage.add("/a")
    holder.pull(Pull("9", "/a", str(directory), 0, 1, 1, {}))
    assert stage.told() == ("impossible", NO_DEBTS)
    os.rmdir(stage.site.run)
    stage.pull(directory)
    assert stage.told() == ("impossible", "memory.high: No such file or directory")
    assert text_of(directory / "memory.high") == "max"
    os.mkdir(stage.site.run)
    holder.stop(90)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("stranger", "which is pid 1"),
        ("looked at", "is looked at now"),
        ("changed", "somebody else has changed it"),
        ("gone", "the cgroup is gone"),
    ],
)
def test_looked_after(stage: Stage, how: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it lasts: who joins, what else changes. Somebody else's value is left alone."""
    monkeypatch.setattr(held, "LOOK_AGAIN_S", 0.01)
    directory = stage.add("/a")
    stage.pull(directory)
    assert stage.told()[0] == "done"
    if how == "stranger":
        stage.site.join(directory, 1)
    elif how == "looked at":
        stage.lever.reason = "is looked at now"
    elif how == "changed":
        (directory / "memory.high").write_text("12345\n", "ascii")
    else:
        directory.rename(directory.parent / "old")
        (directory.parent / "old" / "cgroup.procs").rename(directory.parent / "procs")
        (directory.parent / "old" / "memory.high").unlink()
    status, told = stage.told()
    assert status == "put_back"
    assert why in told
    if how == "changed":
        assert text_of(directory / "memory.high") == "12345"
    elif how != "gone":
        assert text_of(directory / "memory.high") == "max"
    assert not stage.site.written_down()


def test_the_end_puts_everything_back(tmp_path: Path) -> None:
    """All of it, and it is told."""
    with staged(tmp_path) as stage:
        directories = [stage.add(f"/{name}") for name in "abc"]
        for directory in directories:
            stage.pull(directory)
        stage.site.wait(3)
        stage.holder.stop(90)
        assert [result.why for result in stage.site.wait(3)] == ["oomd ends"] * 3
        assert {text_of(directory / "memory.high") for directory in directories} == {"max"}
        assert not stage.site.written_down()


def test_killed_in_the_middle(stage: Stage) -> None:
    """Whoever is started next finds what must be put back, after each single write on the way down."""
    directory = stage.add("/a")
    states = []
    write_down = stage.site.debts.write_down

    def watched(debt: Any) -> None:
        write_down(debt)
        states.append((text_of(directory / "memory.high"), read_debts(str(stage.site.run))[1]))

    stage.site.debts.write_down = watched  # type: ignore[method-assign]
    stage.pull(directory, to=0.2)
    assert stage.told()[0] == "done"
    assert len(states) == 3
    for number, (high, (debt,)) in enumerate(states):
        assert high in (*debt.ours, debt.found)
        assert debt.found == "max"
        assert (high == "max") is (number == 0)
    put_all_back(str(stage.site.run))
    assert text_of(directory / "memory.high") == "max"


EVENTS = st.lists(
    st.tuples(st.sampled_from(("pull", "let go", "stranger", "leaves", "look", "time")), st.integers(0, 2)), max_size=14
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS)
def test_always_undone(tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int]]) -> None:
    """Whatever happens: at every moment what is changed is written down, nobody is moved beside a stranger, and at the
    end every former value stands again.
    """
    with pytest.MonkeyPatch.context() as patch, staged(tmp_path_factory.mktemp("site")) as stage:
        patch.setattr(held, "LOOK_AGAIN_S", 3600.0)  # it looks when the test says so, and not between two steps of it
        directories = [stage.add(f"/{number}") for number in range(3)]
        held_by: dict[int, str] = {}
        for event, number in events:
            directory = directories[number]
            if event == "pull":
                identity = stage.pull(directory, at_most_s=3600.0)
                if any(result.status == "done" and result.decision_id == identity for result in stage.site.wait()):
                    assert 1 not in stage.site.pids(directory)
                    held_by[number] = identity
            elif event == "let go" and number in held_by:
                stage.holder.let_go(held_by.pop(number), "")
                stage.site.wait()
            elif event == "stranger":
                stage.site.join(directory, 1)
            elif event == "leaves":
                pids = [pid for pid in stage.site.pids(directory) if pid != 1]
                (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids), "ascii")
            else:
                stage.look()
                gone = [each for each in held_by if 1 in stage.site.pids(directories[each])]
                assert len(stage.site.wait(len(gone))) == len(gone)
                for each in gone:
                    held_by.pop(each)
            changed = {str(each) for each in directories if text_of(each / "memory.high") != "max"}
            written = {debt.directory for debt in read_debts(str(stage.site.run))[1]}
            assert changed <= written
        stage.holder.stop(90)
        assert {text_of(directory / "memory.high") for directory in directories} == {"max"}
        assert not stage.site.written_down()


def test_a_slow_machine_lets_go_in_time(stage: Stage) -> None:
    """What is left of the time is told to the queue, never below nothing."""
    directory = stage.add("/a")
    assert stage.holder.patience_s() is None
    stage.pull(directory, at_most_s=30)
    stage.told()
    patience = stage.holder.patience_s()
    assert patience is not None
    assert 0 <= patience <= held.LOOK_AGAIN_S
    for each in stage.holder._held.values():
        each.until_s = time.monotonic() - 5
    assert stage.holder.patience_s() == 0
