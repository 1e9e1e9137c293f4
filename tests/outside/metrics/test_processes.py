"""Figures of two processes, on ourselves and on a tree of fakes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from oomd.outside.metrics.processes import Processes


def test_this_process_and_its_parent() -> None:
    """As psutil tells them."""
    numbers = Processes().samples().numbers
    this = psutil.Process()
    assert numbers["oomd_process_start_time_seconds"]["outside",] == pytest.approx(this.create_time(), abs=2)
    assert numbers["oomd_process_start_time_seconds"]["outside",] <= time.time()
    assert numbers["oomd_process_resident_memory_bytes"]["outside",] == pytest.approx(this.memory_info().rss, rel=0.2)
    assert numbers["oomd_process_threads"]["outside",] == this.num_threads()
    assert 0 < numbers["oomd_process_cpu_seconds_total"]["outside",] <= time.process_time() + 1
    assert set(numbers["oomd_process_threads"]) == {("outside",), ("killer",)}
    kernel = next(line for line in Path("/proc/vmstat").read_text("ascii").splitlines() if line.startswith("oom_kill "))
    assert numbers["oomd_kernel_oom_kills_total"] == {(): int(kernel.split()[1])}


def test_hostile_name_and_what_is_missing(tmp_path: Path) -> None:
    """A name may hold anything; without files there are no series."""
    folder = tmp_path / str(os.getpid())
    folder.mkdir()
    fields = [
        "S",
        *["1", "1", "1", "0", "-1", "0", "10", "11", "12", "13"],
        *["250", "50", "0", "0", "20", "0", "7", "0", "300", "4096", "5"],
    ]
    (folder / "stat").write_bytes(f"{os.getpid()} (a) S 9 (b)) {' '.join(fields)} 0 0\n".encode())
    numbers = Processes(str(tmp_path)).samples().numbers
    assert numbers["oomd_process_major_page_faults_total"] == {("outside",): 12}
    assert numbers["oomd_process_cpu_seconds_total"]["outside",] == 300 / os.sysconf("SC_CLK_TCK")
    assert numbers["oomd_process_resident_memory_bytes"]["outside",] == 5 * os.sysconf("SC_PAGE_SIZE")
    assert numbers["oomd_process_threads"]["outside",] == 7
    assert "oomd_kernel_oom_kills_total" not in numbers
