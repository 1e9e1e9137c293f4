"""The file for node_exporter."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from oomd.outside.metrics.textfile import write_textfile

if TYPE_CHECKING:
    from pathlib import Path


def test_readers_never_see_half(tmp_path: Path) -> None:
    """While it is written again and again every reader sees one whole version."""
    path = tmp_path / "oomd.prom"
    versions = {bytes([letter]) * 200_000 for letter in b"abcdef"}
    write_textfile(str(path), b"a" * 200_000)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for version in sorted(versions):
                write_textfile(str(path), version)

    writer = threading.Thread(target=write)
    writer.start()
    seen = {path.read_bytes() for _ in range(300)}
    stop.set()
    writer.join()
    assert seen <= versions
    assert [each.name for each in tmp_path.iterdir()] == ["oomd.prom"]


def test_another_user_may_read_it(tmp_path: Path) -> None:
    """Whatever our umask is."""
    before = os.umask(0o077)
    try:
        write_textfile(str(tmp_path / "oomd.prom"), b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "oomd.prom").stat().st_mode) == 0o644


def test_what_lies_in_the_way(tmp_path: Path) -> None:
    """What a killed process left goes; a link that somebody has put there is not followed."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / ".oomd.prom.new").symlink_to(precious)
    write_textfile(str(tmp_path / "oomd.prom"), b"x")
    assert (precious.read_bytes(), (tmp_path / "oomd.prom").read_bytes()) == (b"precious", b"x")
    assert not (tmp_path / ".oomd.prom.new").exists()


def test_failure_leaves_the_one_before(tmp_path: Path) -> None:
    """No folder, a folder in the way, a full disk: an error, and nothing half."""
    with pytest.raises(FileNotFoundError):
        write_textfile(str(tmp_path / "no" / "oomd.prom"), b"x")
    (tmp_path / "oomd.prom").mkdir()
    with pytest.raises(IsADirectoryError):
        write_textfile(str(tmp_path / "oomd.prom"), b"x")
    assert [each.name for each in tmp_path.iterdir()] == ["oomd.prom"]
