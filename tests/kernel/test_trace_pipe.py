"""Text of trace_pipe, with names that would like to be something else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oomd.kernel.trace_pipe import KillRecord, parse_trace_pipe

NAMES = st.binary(max_size=15).filter(lambda name: b"\0" not in name)
"""What prctl(PR_SET_NAME) takes."""
RECORDS = st.builds(KillRecord, st.integers(1, 4194304), NAMES, st.booleans(), st.integers(0, 4))
LOSSES = st.tuples(st.integers(0, 8191), st.none() | st.integers(1, 1 << 40))


def line_of(record: KillRecord, *, code: int = 0) -> bytes:
    """As the kernel prints it: include/trace/events/signal.h, without the context."""
    head = b"signal_generate: sig=9 errno=0 code=%d comm=%s " % (code, record.comm)
    return head + b"pid=%d grp=%d res=%d\n" % (record.pid, record.group, record.result)


def line_of_loss(cpu: int, number: int | None) -> bytes:
    """print_trace_line() of kernel/trace/trace.c."""
    return b"CPU:%d [LOST EVENTS]\n" % cpu if number is None else b"CPU:%d [LOST %d EVENTS]\n" % (cpu, number)


def test_what_a_kernel_wrote() -> None:
    """Lines as Linux 6.18 wrote them, one with a newline, a parenthesis and no UTF-8 in the name."""
    data = (
        b"signal_generate: sig=9 errno=0 code=0 comm=sleep pid=31850 grp=1 res=0\n"
        b"signal_generate: sig=9 errno=0 code=128 comm=a)\n\xff 0123456789 pid=31855 grp=1 res=2\n"
    )
    assert parse_trace_pipe(data) == (
        [KillRecord(31850, b"sleep", True, 0), KillRecord(31855, b"a)\n\xff 0123456789", True, 2)],
        0,
    )


@given(st.lists(RECORDS | LOSSES))
def test_every_record_and_every_loss_comes_back(lines: list[KillRecord | tuple[int, int | None]]) -> None:
    """Whatever bytes the names hold, each record is read once, as it is, and losses are summed."""
    data = b"".join(line_of(line) if isinstance(line, KillRecord) else line_of_loss(*line) for line in lines)
    records = [line for line in lines if isinstance(line, KillRecord)]
    lost = sum(1 if line[1] is None else line[1] for line in lines if not isinstance(line, KillRecord))
    assert parse_trace_pipe(data) == (records, lost)


@pytest.mark.parametrize(
    "name",
    [
        b"a pid=1 grp=1 r",
        b" pid=1 grp=1\nre",
        b"[LOST 9 EVENTS]",
        b"CPU:0 [LOST 9 E",
        b"signal_generate",
        b"comm=x pid=7",
        b"",
        b" ",
        b"\n\n\n",
        b"[000] d..1. 1.0",
        b"(((((((((((((((",
    ],
)
def test_name_that_looks_like_a_record(name: bytes) -> None:
    """Neither another pid nor a loss can be told by a name, nor is its own record missed."""
    record = KillRecord(4711, name, True, 0)
    assert parse_trace_pipe(line_of(record) * 2) == ([record] * 2, 0)


@given(st.binary())
def test_any_other_text_is_passed_over(data: bytes) -> None:
    """Nothing makes the parser raise, and what holds no whole record gives none."""
    records, lost = parse_trace_pipe(data)
    assert data.count(b"signal_generate: sig=9 ") >= len(records)
    assert lost == 0 or b" EVENTS]\n" in data


@given(RECORDS, st.data())
def test_record_that_was_cut_is_not_told(record: KillRecord, data: st.DataObject) -> None:
    """A beginning of a record is no record: a pid of fewer digits would be another process."""
    line = line_of(record)
    assert parse_trace_pipe(line[: data.draw(st.integers(0, len(line) - 1))]) == ([], 0)


@pytest.mark.parametrize("text", [b"sig=15", b"sig=99", b"sig=-9"])
def test_other_signals_are_not_told(text: bytes) -> None:
    """The filter is in the kernel; should it fail, other signals are still not taken for SIGKILL."""
    assert parse_trace_pipe(line_of(KillRecord(1, b"x", True, 0)).replace(b"sig=9", text)) == ([], 0)
