"""lmkd's file of properties: what can be read, and what cannot."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from oomd.config.lmkd_properties import MOST_BYTES, PropertiesError, problems_of_file, read_properties
from oomd.outside.lmkd_properties import answer_properties

if TYPE_CHECKING:
    from pathlib import Path


def test_text(tmp_path: Path) -> None:
    """As it stands, bytes that are no text included."""
    file = tmp_path / "props"
    file.write_bytes(b"ro.lmk.debug=true\n#\xff\n")
    assert read_properties(str(file)) == "ro.lmk.debug=true\n#\\xff\n"
    assert answer_properties(str(file)) == {"ok": True, "properties": "ro.lmk.debug=true\n#\\xff\n"}


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "large"])
def test_what_is_no_such_file(tmp_path: Path, kind: str) -> None:
    """Named, with the reason; nobody waits for a writer, and nothing is cut and taken for the whole."""
    file = tmp_path / "props"
    if kind == "folder":
        file.mkdir()
    elif kind == "fifo":
        os.mkfifo(file)
    elif kind == "large":
        file.write_bytes(b"#" * (MOST_BYTES + 1))
    words = {
        "missing": "No such file or directory",
        "folder": "is no file",
        "fifo": "is no file",
        "large": "is larger than 64 KiB, no file of properties",
    }[kind]
    with pytest.raises(PropertiesError) as error:
        read_properties(str(file))
    assert str(error.value) == f"{file}: {words}"
    assert answer_properties(str(file)) == {"ok": False, "text": f"{file}: {words}"}


def test_the_largest(tmp_path: Path) -> None:
    """Just as large as may be."""
    file = tmp_path / "props"
    file.write_bytes(b"#" * MOST_BYTES)
    assert len(read_properties(str(file))) == MOST_BYTES


def test_mistakes_have_their_place(tmp_path: Path) -> None:
    """As those of the configuration."""
    file = tmp_path / "props"
    file.write_text("ro.lmk.debug=true\n ro.lmk.thrashing_limit = x\nro.lmk.debug=perhaps\n", encoding="ascii")
    assert [str(problem) for problem in problems_of_file(str(file))] == [
        f"{file}:2:1: ro.lmk.thrashing_limit: 'x' is no number",
        f"{file}:3:1: ro.lmk.debug: 'perhaps' is no truth value",
    ]
    file.unlink()
    assert [str(problem) for problem in problems_of_file(str(file))] == [f"{file}: No such file or directory"]
