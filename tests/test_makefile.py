"""make: whom it lets be touched, and what install and uninstall leave alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INHERITED = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "OOMD_SCOPE")}


def make(*words: str, **environment: str) -> tuple[int, int, str]:
    """A make of our own in the project: its pid, its exit status, what it said."""
    process = subprocess.Popen(
        ["make", "--no-print-directory", *words],
        cwd=ROOT,
        env=INHERITED | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said, _ = process.communicate(timeout=120)
    return process.pid, process.returncode, said


@pytest.mark.parametrize(("given", "scope"), [({}, "tree:{pid}"), ({"OOMD_SCOPE": "tree:7"}, "tree:7")])
def test_scope_is_the_tree_of_this_make(given: dict[str, str], scope: str) -> None:
    """Tests and demo can touch only what this very make has started, unless the caller has said less."""
    pid, status, said = make("--eval=show:;@echo $$OOMD_SCOPE", "show", **given)
    assert (status, said.strip()) == (0, scope.format(pid=pid))


def test_directory_of_somebody_else_is_neither_filled_nor_removed(tmp_path: Path) -> None:
    """PREFIX=/usr/local is a mistake that costs nothing: only what install has made is removed."""
    theirs = tmp_path / "usr" / "local" / "bin" / "theirs"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    where = (f"DESTDIR={tmp_path}", "PREFIX=/usr/local", "PACKAGES=")
    _, status, said = make("install", *where)
    assert (status != 0, "holds something else" in said) == (True, True)
    _, status, said = make("uninstall", *where)
    assert (status, "left alone" in said) == (0, True)
    assert theirs.exists()


def test_uninstall_removes_what_was_installed_and_keeps_the_configuration(tmp_path: Path) -> None:
    """What a person has written into the configuration outlives the program."""
    installed = tmp_path / "opt" / "oomd"
    installed.mkdir(parents=True)
    (installed / ".installed-by-oomd").touch()
    unit = tmp_path / "etc" / "systemd" / "system" / "oomd.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    others = [unit.with_name(name) for name in ("oomd-lmkd.service", "oomd-lmkd.socket", "oomd-metrics.socket")]
    for other in others:
        other.touch()
    taken = unit.with_name("systemd-oomd.service")
    taken.write_text("ExecStart=/opt/oomd/bin/python3 -m oomd run\n")
    bus = tmp_path / "etc" / "dbus-1" / "system.d" / "oomd-oom1.conf"
    bus.parent.mkdir(parents=True)
    others += [taken, taken.with_suffix(".socket"), bus]
    for other in others[-2:]:
        other.touch()
    drop_in = unit.parent / "systemd-oomd.service.d" / "oomd.conf"
    drop_in.parent.mkdir()
    drop_in.touch()
    others.append(tmp_path / "usr" / "local" / "lib" / "systemd" / "catalog" / "oomd.catalog")
    others.append(tmp_path / "etc" / "dbus-1" / "system.d" / "oomd-low-memory.conf")
    for other in others[-2:]:
        other.parent.mkdir(parents=True, exist_ok=True)
        other.touch()
    configuration = tmp_path / "etc" / "oomd" / "oomd.yaml"
    configuration.parent.mkdir()
    configuration.touch()
    _, status, said = make("uninstall", f"DESTDIR={tmp_path}")
    assert (status, installed.exists(), unit.exists(), configuration.exists()) == (0, False, False, True), said
    assert not any(other.exists() for other in others)
    assert not drop_in.parent.exists()
