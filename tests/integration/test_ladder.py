"""Gentle steps of a real daemon on a real cgroup of version 2: frozen and thawed, by others where it is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.integration.harness import Guarded
from tests.integration.test_run import hear, outside_of, suspended, tell, tree, wait_until
from tests.reap.levers import control_group, find_mount

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

RULES = """
rulesets:
  - name: gentle
    when: {{all: [{{memory_available: {{below: 40%}}}}]}}
    critical: {{all: [{{memory_available: {{below: 10%}}}}]}}
    choose: {{policy: freeable}}
    then:
      - notify: {{}}
      - reclaim: {{}}
      - throttle: {{}}
      - freeze: {{timeout: 60s, at_most: {at_most}}}
      - kill: {{}}
"""


class Scene:
    """A process of 120 MiB in a cgroup of its own, below a root that can start more; a budget of 256 MiB."""

    def __init__(self, folder: Path, group: Path, root: object, pid: int) -> None:
        self.folder, self.group, self.root, self.pid = folder, group, root, pid

    @property
    def frozen(self) -> bool:
        """Whether the cgroup stands still."""
        return "frozen 1" in (self.group / "cgroup.events").read_text("ascii")

    def daemon(self, *options: str, at_most: str = "60s") -> Guarded:
        """oomd guarding the tree."""
        rules = self.folder / "rules.yaml"
        rules.write_text(RULES.format(at_most=at_most), "utf-8")
        argv = [sys.executable, "-m", "oomd", "run", "--scope", f"tree:{self.root.pid}", "--budget", "256MiB"]  # type: ignore[attr-defined]
        argv += ["--config", str(rules), "--runtime-dir", str(self.folder / "run"), "--log-format", "json", *options]
        return Guarded(argv)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A fresh one."""
    mount = find_mount("freezer", 2)
    if mount is None or not os.access(f"{mount.point}/cgroup.procs", os.W_OK):
        pytest.skip("no cgroups of version 2 that we may make")
    with control_group(mount) as group, contextlib.ExitStack() as stack:
        root = stack.enter_context(tree())
        tell(root, "hold large 120")
        pid = int(hear(root, "holding").split()[-1])
        (group / "cgroup.procs").write_text(str(pid), "ascii")
        yield Scene(tmp_path, group, root, pid)


def test_frozen_until_the_alarm_is_over(scene: Scene) -> None:
    """Steps that cannot be are passed over; the largest stands still while another takes more, and goes on when that
    one has gone. Nobody is killed.
    """
    with scene.daemon() as run:
        run.wait_event("start")
        tell(scene.root, "hold small 60")  # type: ignore[arg-type]
        small = int(hear(scene.root, "holding small").split()[-1])  # type: ignore[arg-type]
        wait_until("frozen", lambda: scene.frozen)
        os.kill(small, signal.SIGTERM)
        put_back = run.wait_event("step", lambda event: event["status"] == "put_back")
        wait_until("thawed", lambda: not scene.frozen)
        freeze = run.wait_event("step", lambda event: event["action"] == "freeze" and event["status"] == "enough")
    assert put_back["why"] == "the alarm is over"
    assert freeze["gained_bytes"] > 20 << 20
    assert freeze["name"] == f"/{scene.group.name}"
    ends = {event["action"]: event["status"] for event in run.of("step") if event["status"] != "put_back"}
    assert ends == {"notify": "not_enough", "reclaim": "impossible", "throttle": "impossible", "freeze": "enough"}
    decisions = [event["decision"]["action"] for event in run.of("decision")]
    assert decisions == ["notify", "reclaim", "throttle", "freeze"]
    for times in (event["times"] for event in run.of("decision")):
        assert times["wake_us"] <= times["read_us"] <= times["decided_us"], times
        assert times["signalled_us"] is None
    assert psutil.pid_exists(scene.pid)
    assert not (scene.folder / "run" / "debts").exists()


def test_critical_overtakes(scene: Scene) -> None:
    """In the middle of the step it is killed, frozen as it is; the cgroup is thawed behind it."""
    with scene.daemon() as run:
        run.wait_event("start")
        tell(scene.root, "hold small 60")  # type: ignore[arg-type]
        wait_until("frozen", lambda: scene.frozen)
        tell(scene.root, "hold more 60")  # type: ignore[arg-type]
        run.wait_event("outcome")
        wait_until("thawed", lambda: not scene.frozen)
        step = run.wait_event("step", lambda event: event["status"] == "overtaken")
    assert step["action"] == "freeze"
    assert run.of("outcome")[0]["pid"] == scene.pid


def test_its_time_is_over(scene: Scene) -> None:
    """It is thawed while the alarm holds on."""
    with scene.daemon(at_most="1s") as run:
        tell(scene.root, "hold small 60")  # type: ignore[arg-type]
        put_back = run.wait_event("step", lambda event: event["status"] == "put_back")
        wait_until("thawed", lambda: not scene.frozen)
    assert put_back["why"] == "its time is over"


def test_stopped_in_the_middle(scene: Scene) -> None:
    """SIGTERM: everything is put back before it ends, and told."""
    with scene.daemon() as run:
        tell(scene.root, "hold small 60")  # type: ignore[arg-type]
        wait_until("frozen", lambda: scene.frozen)
        run.process.send_signal(signal.SIGTERM)
        assert run.wait_end() == 0
        assert not scene.frozen
    assert [event["why"] for event in run.of("step") if event["status"] == "put_back"] == ["oomd ends"]


def test_killed_in_the_middle(scene: Scene) -> None:
    """SIGKILL for the killer: the outside process thaws."""
    with scene.daemon() as run:
        tell(scene.root, "hold small 60")  # type: ignore[arg-type]
        wait_until("frozen", lambda: scene.frozen)
        run.process.kill()
        wait_until("thawed", lambda: not scene.frozen)
        run.wait_end()
    assert any("the killer has ended and had left changed" in event["text"] for event in run.of("note"))
    assert not (scene.folder / "run" / "debts").exists()


def test_both_killed_in_the_middle(scene: Scene) -> None:
    """SIGKILL for both: it stays frozen, and the next start thaws, before anything else; also one that cannot start."""
    for options in ((), ("--budget", "nonsense")):
        with scene.daemon() as run:
            tell(scene.root, "hold small 60")  # type: ignore[arg-type]
            small = int(hear(scene.root, "holding small").split()[-1])  # type: ignore[arg-type]
            wait_until("frozen", lambda: scene.frozen)
            outside = outside_of(run)
            suspended(outside)
            run.process.kill()
            outside.kill()
            run.wait_end()
        assert scene.frozen
        os.kill(small, signal.SIGTERM)
        with scene.daemon(*options) as run:
            wait_until("thawed", lambda: not scene.frozen)
            if not options:
                note = run.wait_event("note")
                assert "an oomd that was killed had left changed" in note["text"]
            wait_until("struck out", lambda: not (scene.folder / "run" / "debts").exists())
        assert not scene.frozen


def test_dry_run(scene: Scene) -> None:
    """Every step is told, and nothing is changed."""
    with scene.daemon("--dry-run") as run:
        tell(scene.root, "hold small 60")  # type: ignore[arg-type]
        run.wait_event("decision", lambda event: event["decision"]["action"] == "freeze")
        run.wait_event("step", lambda event: event["action"] == "throttle")
        assert not scene.frozen
    assert all(event["dry_run"] for event in (*run.of("decision"), *run.of("step")))
    assert psutil.pid_exists(scene.pid)
