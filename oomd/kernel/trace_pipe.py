"""What a trace instance's ``trace_pipe`` says of signals: the event ``signal/signal_generate``
(include/trace/events/signal.h).
"""

from __future__ import annotations

import re

from oomd.model.values import dataclass

TRACE_SIGNAL_DELIVERED = 0
TRACE_SIGNAL_IGNORED = 1
"""By init, which no SIGKILL from inside its PID namespace ends."""
TRACE_SIGNAL_ALREADY_PENDING = 2
"""Somebody has sent the same before."""

# One alternation, so that text which stands in a name is consumed with its record and never read as one. A name has at
# most 15 bytes, any of which may be a space, a bracket or a newline; the 20 bytes that must follow it do not fit into
# one, so where it ends is never in doubt. No \Z, no \n class: the newline is the record's end.
_RECORD = re.compile(
    rb"signal_generate: sig=9 errno=-?\d{1,10} code=-?\d{1,10} comm=(.{0,15}?)"
    rb" pid=(\d{1,10}) grp=([01]) res=([0-4])\n"
    rb"|CPU:\d{1,5} \[LOST (?:(\d{1,19}) )?EVENTS\]\n",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class KillRecord:
    """Somebody sent SIGKILL."""

    pid: int
    """Of the process, or of one thread of it: in the *first* PID namespace, whoever reads."""
    comm: bytes
    """The name of that process or thread: any bytes but NUL."""
    group: bool
    """To the process, not to one thread of it; the end of all is the same."""
    result: int
    """TRACE_SIGNAL_*."""


def parse_trace_pipe(data: bytes) -> tuple[list[KillRecord], int]:
    """The SIGKILLs in what one read of ``trace_pipe`` gave (whole lines: the kernel never splits a record), and how
    many records the kernel says it has overwritten before anybody read them (at least; some kernels do not count).
    Other text is passed over. Never raises.
    """
    records: list[KillRecord] = []
    lost = 0
    for found in _RECORD.finditer(data):
        comm, pid, group, result, number = found.groups()
        if pid is None:
            lost += 1 if number is None else int(number)
        else:
            records.append(KillRecord(int(pid), comm, group == b"1", int(result)))
    return records, lost
