"""Hooks of a real daemon around real kills."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.integration.test_run import daemon, hear, tell, tree

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

LIMITS = "level: {term: 128MiB, kill: 8MiB, grace: 60s}\nstall: off\n"
"""Of 256 MiB."""
SHORT = "135"
"""So many MiB in use are an alarm, not a critical one, and so little beyond it that no grace is cut short for it,
however late it is seen.
"""


def configuration(folder: Path, hooks: str) -> str:
    """A configuration of the test's own, which nobody else may write."""
    path = folder / "oomd.yaml"
    path.write_text(LIMITS + hooks, encoding="utf-8")
    path.chmod(0o600)
    return str(path)


def script(folder: Path, name: str, text: str) -> str:
    """A program of the test."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def test_facts_before_and_after_a_kill(tmp_path: Path) -> None:
    """Both programs are run, in this order, know who it is about, and the decision waits for the first."""
    before = script(tmp_path, "before", f"cat > {tmp_path}/before.json; echo $OOMD_ACTION $OOMD_VICTIM_COMM; exit 3")
    after = script(tmp_path, "after", f"cat > {tmp_path}/after.json; echo $OOMD_STATUS $OOMD_RULESET")
    config = configuration(
        tmp_path, f"hooks: {{before: {{exec: [{before}], deadline: 60s}}, after: {{exec: [{after}]}}}}\n"
    )
    with tree() as root, daemon(root, tmp_path, "--config", config) as run:
        run.wait_event("start")
        tell(root, f"leak leaker {SHORT}")
        first = run.wait_event("hook", lambda event: event["stage"] == "before")
        decision = run.wait_event("decision")
        second = run.wait_event("hook", lambda event: event["stage"] == "after")
    assert (first["status"], first["exit_status"], first["text"]) == ("failed", 3, "term leaker")
    assert (second["status"], second["text"]) == ("done", "exited level")
    assert first["id"] == second["id"] == decision["id"]
    assert 0 < decision["times"]["hooks_us"] < 60_000_000
    told = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("before", "after")]
    assert told[0]["decision"]["target"] == decision["decision"]["target"]
    assert (told[1]["pid"], told[1]["status"]) == (decision["decision"]["target"]["pid"], "exited")


def test_hook_that_hangs_costs_its_deadline_and_no_more(tmp_path: Path) -> None:
    """It is killed, and the signal goes out; its own children too are no more."""
    hangs = script(tmp_path, "hangs", "trap '' TERM; sleep 1000 & sleep 1000")
    config = configuration(tmp_path, f"hooks: {{before: {{exec: [{hangs}], deadline: 300ms}}}}\n")
    with tree() as root, daemon(root, tmp_path, "--config", config) as run:
        run.wait_event("start")
        tell(root, f"leak leaker {SHORT}")
        decision = run.wait_event("decision")
        assert run.wait_event("hook")["status"] == "late"
        assert run.wait_event("outcome")["comm"] == "leaker"
    assert decision["times"]["hooks_us"] >= 300_000


def test_critical_level_overtakes_a_hook(tmp_path: Path) -> None:
    """Memory keeps falling while a hook hangs, and nobody waits for it any longer."""
    hangs = script(tmp_path, "hangs", "sleep 1000")
    config = configuration(tmp_path, f"hooks: {{before: {{exec: [{hangs}], deadline: 60s}}}}\n")
    with tree() as root, daemon(root, tmp_path, "--config", config) as run:
        run.wait_event("start")
        tell(root, "leak leaker 400")
        decision = run.wait_event("decision")
        assert run.wait_event("outcome")["status"] == "killed"
    assert decision["decision"]["action"] == "kill"
    assert decision["times"]["hooks_us"] < 60_000_000


def test_hook_that_frees_enough_saves_everybody(tmp_path: Path) -> None:
    """The alarm is over when the hook is: nobody is signalled, and that is told."""
    pids = tmp_path / "cache.pid"
    frees = script(tmp_path, "frees", f"kill -KILL $(cat {pids}); while [ -e {pids} ]; do sleep 0.05; done; sleep 1000")
    config = configuration(tmp_path, f"hooks: {{before: {{exec: [{frees}], deadline: 60s}}}}\n")
    with tree() as root, daemon(root, tmp_path, "--config", config) as run:
        run.wait_event("start")
        tell(root, "hold cache 100")
        pids.write_text(hear(root, "holding").split()[2])
        tell(root, "leak leaker 60")
        note = run.wait_event("note", lambda event: "nobody is signalled" in event["text"])
        assert note["text"].startswith("#1: the alarm ended while hooks ran")
        assert run.of("decision") == []
        pids.unlink()


def test_reload_takes_other_hooks(tmp_path: Path) -> None:
    """And refuses those of a file that others may write, with the place; the old ones stay."""
    program = script(tmp_path, "one", "echo one")
    other = script(tmp_path, "two", "echo two")
    config = configuration(tmp_path, f"hooks: {{before: {{exec: [{program}], deadline: 60s}}}}\n")
    with tree() as root, daemon(root, tmp_path, "--config", config) as run:
        run.wait_event("start")
        configuration(tmp_path, f"hooks: {{before: {{exec: [{other}], deadline: 60s}}}}\n")
        run.process.send_signal(1)
        assert run.wait_event("reload")["ok"]
        os.chmod(config, 0o666)
        run.process.send_signal(1)
        (problem,) = run.wait_event("reload", lambda event: not event["ok"])["problems"]
        assert "would run programs for whoever can change this file" in problem
        tell(root, f"leak leaker {SHORT}")
        assert run.wait_event("hook")["text"] == "two"
