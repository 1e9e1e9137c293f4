"""parse_vmstat and the growth bound."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.features import rss_slack_bytes
from oomd.kernel.files import PAGE_BYTES, KernelFormatError
from oomd.kernel.process import parse_statm
from oomd.kernel.vmstat import (
    PAGES_PER_HUGE_PAGE,
    Growth,
    Vmstat,
    parse_growth,
    parse_vmstat,
    read_fault_pages,
)
from tests.kernel.arbitrary import captured, mangled, survives
from tests.kernel.children import child, go_on, said, settled


def test_captured_file() -> None:
    """Every counter has the value of its line, or the sum of its lines over the zones."""
    lines = {name: int(value) for name, value in (line.split() for line in captured("vmstat").decode().splitlines())}
    vmstat = parse_vmstat(captured("vmstat"))
    assert vmstat.pgalloc == sum(value for name, value in lines.items() if name.startswith("pgalloc_")) > 0
    assert vmstat.allocstall == sum(value for name, value in lines.items() if name.startswith("allocstall_"))
    assert vmstat.pgscan == lines["pgscan_kswapd"] + lines["pgscan_direct"]
    assert vmstat.pgsteal == lines["pgsteal_kswapd"] + lines["pgsteal_direct"]
    for name in ("pgfault", "pgmajfault", "thp_fault_alloc", "thp_collapse_alloc", "pswpin", "pswpout", "oom_kill"):
        assert getattr(vmstat, name) == lines[name]
    assert vmstat.workingset_refault_anon == lines["workingset_refault_anon"]
    assert vmstat.workingset_refault_file == lines["workingset_refault_file"]


COUNTERS = {
    "workingset_refault_anon": ["workingset_refault_anon"],
    "workingset_refault_file": ["workingset_refault_file"],
    "pswpin": ["pswpin"],
    "pswpout": ["pswpout"],
    "pgalloc": ["pgalloc_dma", "pgalloc_normal"],
    "allocstall": ["allocstall_normal", "allocstall_movable"],
    "pgfault": ["pgfault"],
    "pgmajfault": ["pgmajfault"],
    "pgsteal": ["pgsteal_kswapd", "pgsteal_direct"],
    "pgscan": ["pgscan_kswapd", "pgscan_direct"],
    "pgscan_direct": ["pgscan_direct"],
    "oom_kill": ["oom_kill"],
    "thp_fault_alloc": ["thp_fault_alloc"],
    "thp_collapse_alloc": ["thp_collapse_alloc"],
}


@given(st.permutations(list(COUNTERS)), st.data())
def test_the_order_of_the_lines_does_not_matter(order: list[str], data: st.DataObject) -> None:
    """Another kernel may put its counters in another order, and lines with a longer name are not theirs."""
    values = {line: data.draw(st.integers(0, 1 << 64)) for field in order for line in COUNTERS[field]}
    assert set(values) == {line for lines in COUNTERS.values() for line in lines}
    text = "".join(f"{line} {value}\n" for line, value in values.items()) + "pgscan_direct_throttle 7\npgfault_x 7\n"
    vmstat = parse_vmstat(text.encode())
    assert vmstat == Vmstat(**{field: sum(values[line] for line in lines) for field, lines in COUNTERS.items()})


def test_absent_counters() -> None:
    """F19: what a kernel does not count is 0, and the refaults of kernels before 5.9 are those of files."""
    vmstat = parse_vmstat(b"nr_free_pages 1\nworkingset_refault 17\npgfault 3\n")
    assert (vmstat.workingset_refault_file, vmstat.workingset_refault_anon) == (17, 0)
    assert (vmstat.pgfault, vmstat.pgalloc, vmstat.oom_kill) == (3, 0, 0)


def test_malformed_counter() -> None:
    """A wanted counter that is no number is an error which names it."""
    with pytest.raises(KernelFormatError, match="/proc/vmstat: pgfault"):
        parse_vmstat(b"pgfault many\n")


GROWTH_LINES = ["pgalloc_dma", "pgalloc_normal", "pgfault", "pgmajfault", "thp_fault_alloc", "thp_collapse_alloc"]


@given(st.permutations(GROWTH_LINES), st.data())
def test_growth_counters_are_those_of_the_whole_file(order: list[str], data: st.DataObject) -> None:
    """Zones' lines stand together; for the rest the order does not matter."""
    order = ["pgalloc_dma", "pgalloc_normal", *(line for line in order if not line.startswith("pgalloc"))]
    order = data.draw(st.sampled_from([order, order[2:] + order[:2]]))
    values = {line: data.draw(st.integers(1, 1 << 40)) for line in order}
    text = "".join(f"{line} {value}\n" for line, value in values.items()).encode()
    whole = parse_vmstat(text)
    huge = whole.thp_fault_alloc + whole.thp_collapse_alloc
    assert parse_growth(text) == Growth(whole.pgalloc, whole.pgfault + huge * PAGES_PER_HUGE_PAGE)
    assert parse_growth(text, fault_pages=16) == Growth(whole.pgalloc, 16 * whole.pgfault + huge * PAGES_PER_HUGE_PAGE)


def test_growth_counters_of_a_captured_file() -> None:
    """As the full reading has it; and None where a kernel, or a recorded tree, does not count."""
    vmstat, growth = parse_vmstat(captured("vmstat")), parse_growth(captured("vmstat"))
    assert growth is not None
    assert (growth.allocated_pages, growth.faulted_pages >= vmstat.pgfault) == (vmstat.pgalloc, True)
    assert parse_growth(b"pgfault 3\n") is parse_growth(b"pgalloc_normal 3\n") is parse_growth(b"") is None


@pytest.mark.parametrize(
    ("after", "pages"),
    [
        (Growth(1000, 10), 10),  # a file is read: pages, but hardly a fault
        (Growth(10, 1000), 10),  # files are mapped: faults, but hardly a page
        (Growth(0, 0), 0),
    ],
)
def test_growth(after: Growth, pages: int) -> None:
    """The bound is the smaller of pages allocated and pages that faults can have brought."""
    assert after.pages_since(Growth(0, 0)) == pages
    assert Growth(0, 0).pages_since(after) == 0


def test_the_bound_holds_for_a_real_process() -> None:
    """No real growth of a process exceeds the bound, whether pages come one by one or all at once."""
    code = "import mmap; print(flush=True); input(); held = bytearray(b'x') * (24 << 20)\n"
    code += "more = mmap.mmap(-1, 24 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000)\n"
    code += "print(flush=True); input()"
    with child(code) as process:
        said(process)
        settled(process)
        statm, vmstat = Path(f"/proc/{process.pid}/statm"), Path("/proc/vmstat")
        resident, shared = parse_statm(statm.read_bytes())
        before = parse_growth(vmstat.read_bytes(), fault_pages=read_fault_pages())
        go_on(process)
        said(process)
        settled(process)
        more_resident, more_shared = parse_statm(statm.read_bytes())
        growth = (more_resident - more_shared) - (resident - shared)
        assert growth * PAGE_BYTES >= 40 << 20
        after = parse_growth(vmstat.read_bytes(), fault_pages=read_fault_pages())
        assert before is not None
        assert after is not None
        assert growth * PAGE_BYTES - rss_slack_bytes() <= after.pages_since(before) * PAGE_BYTES


def test_folio_sizes(tmp_path: Path) -> None:
    """The biggest size that is on, or inherits that it is on, counts; the PMD size has counters of its own."""
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    for kib, choice in ((64, "inherit"), (128, "never"), (PAGES_PER_HUGE_PAGE * PAGE_BYTES // 1024, "inherit")):
        folder = tmp_path / f"hugepages-{kib}kB"
        folder.mkdir()
        (folder / "enabled").write_text("always inherit madvise never\n".replace(choice, f"[{choice}]"))
    (tmp_path / "hugepages-32kB").mkdir()
    (tmp_path / "khugepaged").mkdir()
    assert read_fault_pages(str(tmp_path)) == 64 * 1024 // PAGE_BYTES
    (tmp_path / "hugepages-128kB" / "enabled").write_text("[always] inherit madvise never\n")
    assert read_fault_pages(str(tmp_path)) == 128 * 1024 // PAGE_BYTES


def test_no_folio_sizes(tmp_path: Path) -> None:
    """Where huge pages are not built in, or the size inherits that they are off, one fault brings one page."""
    assert read_fault_pages(str(tmp_path / "absent")) == 1
    (tmp_path / "hugepages-64kB").mkdir()
    (tmp_path / "hugepages-64kB" / "enabled").write_text("always [inherit] madvise never\n")
    (tmp_path / "enabled").write_text("always madvise [never]\n")
    assert read_fault_pages(str(tmp_path)) == 1


@given(mangled("vmstat"))
def test_arbitrary_bytes(data: bytes) -> None:
    """F19: anything gives a value or KernelFormatError."""
    assert survives(parse_vmstat, data)
    assert survives(parse_growth, data)
