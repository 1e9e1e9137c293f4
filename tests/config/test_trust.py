"""Who else can change a file that has programs run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oomd.config.trust import why_untrusted

OTHER = 12345
"""A uid of nobody here."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of ours with a file that is ours alone."""
    path = tmp_path / "etc"
    path.mkdir(mode=0o755)
    (path / "oomd.yaml").write_text("")
    (path / "oomd.yaml").chmod(0o644)
    return path


def test_what_is_ours_alone_is_trusted(folder: Path) -> None:
    """The file, every folder above it, and the root."""
    assert why_untrusted(f"{folder}/oomd.yaml") == ""
    assert why_untrusted(f"{folder}/../etc/./oomd.yaml") == ""


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_file_that_others_may_write(folder: Path, mode: int) -> None:
    """The group counts as others."""
    (folder / "oomd.yaml").chmod(mode)
    assert why_untrusted(f"{folder}/oomd.yaml") == f"others may write {folder}/oomd.yaml (mode {mode:04o})"


def test_folder_that_others_may_write(folder: Path) -> None:
    """They could put another file in its place; in one like /tmp they could not."""
    folder.chmod(0o777)
    assert why_untrusted(f"{folder}/oomd.yaml") == f"others may write {folder} (mode 0777)"
    folder.chmod(0o1777)
    assert why_untrusted(f"{folder}/oomd.yaml") == ""


def test_file_with_the_mark_of_such_a_folder(folder: Path) -> None:
    """On a file the sticky bit protects nothing."""
    (folder / "oomd.yaml").chmod(0o1666)
    assert "others may write" in why_untrusted(f"{folder}/oomd.yaml")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away, which root alone can")
@pytest.mark.parametrize("which", ["oomd.yaml", "."])
def test_what_belongs_to_somebody_else(folder: Path, which: str) -> None:
    """Its owner may change its mode."""
    os.chown(folder / which, OTHER, 0)
    assert why_untrusted(f"{folder}/oomd.yaml").endswith(f"belongs to uid {OTHER}")
    assert why_untrusted(f"{folder}/oomd.yaml", uid=OTHER) == ""


def test_link_is_followed(folder: Path, tmp_path: Path) -> None:
    """A link of ours into a folder that others may write, through a second link."""
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o777)
    (loose / "real.yaml").write_text("")
    (tmp_path / "second").symlink_to(loose)
    (folder / "link.yaml").symlink_to("../second/real.yaml")
    assert why_untrusted(f"{folder}/link.yaml") == f"others may write {loose} (mode 0777)"


def test_circle_of_links_ends(folder: Path) -> None:
    """The kernel says so itself where it is asked for what lies behind it."""
    (folder / "a").symlink_to("b/c")
    (folder / "b").symlink_to("a/c")
    with pytest.raises(OSError, match="Too many levels"):
        why_untrusted(f"{folder}/a")
    chain = folder / "chain"
    chain.mkdir()
    for number in range(45):
        (chain / str(number)).symlink_to(str(number + 1))
    assert "too many links" in why_untrusted(f"{chain}/0")


def test_what_is_not_there_is_an_error(folder: Path) -> None:
    """Nobody can say whose it is."""
    with pytest.raises(FileNotFoundError):
        why_untrusted(f"{folder}/absent")
