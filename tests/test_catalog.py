"""systemd/oomd.catalog: an explanation of every kind of event, as journalctl itself reads it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from oomd.outside.journal import MESSAGE_IDS

ROOT = Path(__file__).parents[1]
CATALOG = ROOT / "systemd" / "oomd.catalog"
NO_NEWS = {"answer", "request", "seen", "rules", "after"}
"""What the two processes tell each other, and nobody else."""


def told_kinds() -> set[str]:
    """The kinds of events that our code tells."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "oomd").rglob("*.py")]
    found = {kind for text in sources for kind in re.findall(r'tell\(\s*"(\w+)"|\{"event": "(\w+)"', text)}
    return {kind for pair in found for kind in pair if kind} - NO_NEWS


def test_every_kind_of_event_has_an_id_of_its_own() -> None:
    """Programs ask for MESSAGE_ID=…; no two kinds share one."""
    assert told_kinds() <= MESSAGE_IDS.keys()
    assert len(set(MESSAGE_IDS.values())) == len(MESSAGE_IDS)
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in MESSAGE_IDS.values())


def test_journalctl_explains_every_kind(tmp_path: Path) -> None:
    """The catalog that journalctl makes of the file has an entry for each, with a subject and more than that."""
    for folder in ("usr/lib/systemd/catalog", "var/lib/systemd/catalog"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "usr/lib/systemd/catalog" / CATALOG.name).write_bytes(CATALOG.read_bytes())
    updated = journalctl(tmp_path, "--update-catalog")
    assert (updated.returncode, updated.stdout + updated.stderr) == (0, "")
    listed = {line.split()[0] for line in journalctl(tmp_path, "--list-catalog").stdout.splitlines() if line}
    assert listed == set(MESSAGE_IDS.values())
    for identity in MESSAGE_IDS.values():
        head, _, text = journalctl(tmp_path, "--dump-catalog", identity).stdout.partition("\n\n")
        assert "\nSubject: " in head
        assert "\nDefined-By: oomd" in head
        assert len(text) > 40


def test_only_fields_that_exist_are_named() -> None:
    """@FIELD@ of something that is never sent would stand there as it is."""
    source = (ROOT / "oomd" / "outside" / "journal.py").read_text(encoding="utf-8")
    for field in re.findall(r"@OOMD_(\w+)@", CATALOG.read_text(encoding="utf-8")):
        name = field.removeprefix("VICTIM_").lower()
        assert f'"{field}"' in source or f'"{name}"' in source, field


def journalctl(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """On a tree of our own."""
    command = ["journalctl", f"--root={root}", "--no-pager", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
