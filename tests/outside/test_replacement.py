"""Files that are replaced as a whole."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from oomd.outside.replacement import OWN, PUBLIC, replace_file

if TYPE_CHECKING:
    from pathlib import Path


def test_readers_never_see_half(tmp_path: Path) -> None:
    """While it is written again and again every reader sees one whole version."""
    path = tmp_path / "oomd.prom"
    versions = {bytes([letter]) * 200_000 for letter in b"abcdef"}
    replace_file(str(path), b"a" * 200_000, PUBLIC)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for version in sorted(versions):
                replace_file(str(path), version, PUBLIC)

    writer = threading.Thread(target=write)
    writer.start()
    seen = {path.read_bytes() for _ in range(300)}
    stop.set()
    writer.join()
    assert seen <= versions
    assert [each.name for each in tmp_path.iterdir()] == ["oomd.prom"]


@pytest.mark.parametrize("mode", [OWN, PUBLIC])
def test_mode(tmp_path: Path, mode: int) -> None:
    """As asked for, whatever our umask is."""
    before = os.umask(0o077)
    try:
        replace_file(str(tmp_path / "oomd.prom"), b"x", mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "oomd.prom").stat().st_mode) == mode


def test_what_lies_in_the_way(tmp_path: Path) -> None:
    """What a killed process left goes; a link that somebody has put there is not followed."""
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / "oomd.prom.new").symlink_to(precious)
    replace_file(str(tmp_path / "oomd.prom"), b"x", PUBLIC)
    assert (precious.read_bytes(), (tmp_path / "oomd.prom").read_bytes()) == (b"precious", b"x")
    assert not (tmp_path / "oomd.prom.new").exists()


def test_failure_leaves_the_one_before(tmp_path: Path) -> None:
    """No folder, a folder in the way, a full disk: an error, and nothing half."""
    with pytest.raises(FileNotFoundError):
        replace_file(str(tmp_path / "no" / "oomd.prom"), b"x", PUBLIC)
    (tmp_path / "oomd.prom").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(str(tmp_path / "oomd.prom"), b"x", PUBLIC)
    assert [each.name for each in tmp_path.iterdir()] == ["oomd.prom"]
