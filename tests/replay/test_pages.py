"""The page size of the machine that a trace is of."""

from __future__ import annotations

from pathlib import Path

import pytest

from oomd.kernel.files import PAGE_BYTES
from oomd.replay.pages import page_bytes_of

KERNEL = Path(__file__).parents[1] / "fixtures" / "kernel"
ZONE = (
    "Node {node}, zone   Normal\n  pages free     1\n        min      1\n        low      2\n        high     3\n"
    "        managed  {managed}\n"
)


def tree(root: Path, total_kb: int, *managed: int) -> str:
    """So much memory, in zones of so many pages."""
    (root / "meminfo").write_text(f"MemTotal: {total_kb:>12} kB\nMemFree: 1 kB\n", encoding="ascii")
    zones = "".join(ZONE.format(node=node, managed=pages) for node, pages in enumerate(managed))
    (root / "zoneinfo").write_text(zones, encoding="ascii")
    return str(root)


@pytest.mark.parametrize("size_kb", [4, 8, 16, 64])
def test_told_by_the_machine(tmp_path: Path, size_kb: int) -> None:
    """Of all zones together; a little more or less, because both are not told at one instant."""
    assert page_bytes_of(tree(tmp_path, 1000 * size_kb, 400, 600)) == size_kb * 1024
    assert page_bytes_of(tree(tmp_path, 1000 * size_kb, 950)) == size_kb * 1024
    assert page_bytes_of(tree(tmp_path, 1000 * size_kb, 700)) == PAGE_BYTES


def test_where_it_cannot_be_told(tmp_path: Path) -> None:
    """This machine's own: without the files, and with others in their place."""
    assert page_bytes_of(str(tmp_path)) == PAGE_BYTES
    (tmp_path / "meminfo").write_text("MemTotal: many kB\n", encoding="ascii")
    assert page_bytes_of(str(tmp_path)) == PAGE_BYTES
    tree(tmp_path, 1000)
    assert page_bytes_of(str(tmp_path)) == PAGE_BYTES


def test_real_files() -> None:
    """This machine is what it says."""
    assert page_bytes_of("/proc") == PAGE_BYTES
    assert page_bytes_of(str(KERNEL)) == 4096
