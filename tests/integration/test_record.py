"""``oomd run --record`` on a tree of its own, and ``oomd replay`` of what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.test_run import daemon, tell, tree

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def replayed(*arguments: str) -> list[dict[str, Any]]:
    """The lines of ``oomd replay --json``."""
    argv = [sys.executable, "-m", "oomd", "replay", "--json", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_an_incident_can_be_asked_again(tmp_path: Path) -> None:
    """A real kill, recorded: its own rules give its own decisions; rules that protect the victim differ there."""
    incident = tmp_path / "incident"
    with tree() as root, daemon(root, tmp_path, "--record", str(incident)) as run:
        run.wait_event("start")
        tell(root, "hold hog 300")
        victim = run.wait_event("outcome")
    lines = replayed(str(incident))
    signalled = [line["decision"] for line in lines if line["decision"]["action"] in ("term", "kill")]
    assert signalled[0]["target"]["pid"] == victim["pid"]
    assert not any(line["differs"] for line in lines)
    other = tmp_path / "other.yaml"
    other.write_text("protect: [hog]\n")
    changed = [line for line in replayed(str(incident), "--config", str(other)) if line["differs"]]
    assert changed[0]["recorded"]["target"]["pid"] == victim["pid"]
    assert all((line["decision"]["target"] or {}).get("pid") != victim["pid"] for line in changed)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("no/file", "there is no folder {folder}/no"),
        ("", "is not the name of a file"),
        ("folder", "is not the name of a file"),
        ("pipe", "is not the name of a file"),
        ("other", "is a file already, and no recording of oomd"),
        ("device", "is not the name of a file"),
    ],
)
def test_a_place_that_cannot_be_written(tmp_path: Path, place: str, why: str) -> None:
    """Is told at the start, before anything is guarded; nothing but a recording is ever replaced."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "other").write_text("level: off\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")
    path = f"{tmp_path}/{place}"
    argv = [sys.executable, "-m", "oomd", "run", "--dry-run", "--runtime-dir", str(tmp_path / "run")]
    done = subprocess.run([*argv, "--record", path], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr == f"oomd: --record {path}: {why.format(folder=tmp_path)}\n"
    assert (tmp_path / "other").read_text() == "level: off\n"
