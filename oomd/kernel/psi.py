"""Pressure stall information: how long tasks waited for memory; Documentation/accounting/psi.rst.

``total=`` is brought up to date by the read itself, the averages move every 2 s only and avg10 is ten
seconds late: decide by the growth of ``total``.
"""

from __future__ import annotations

import os

from oomd.kernel.files import KernelFormatError, parse_number
from oomd.model.snapshot import Pressure, PressureLine

__all__ = ["Pressure", "PressureLine", "open_trigger", "parse_pressure", "parse_totals"]

MEMORY_PRESSURE = "/proc/pressure/memory"
"""Absent when the kernel was built without PSI or started with psi=0."""


def parse_totals(data: bytes) -> tuple[int, int]:
    """Stall since boot of ``some`` and ``full``, microseconds; 0 for ``full`` where the line is absent.

    Raises :class:`KernelFormatError` when the ``some`` line is missing or a total is no number.
    """
    if not data.startswith(b"some "):
        raise KernelFormatError("pressure", "some")
    some, _, full = data.partition(b"\nfull ")
    return _parse_total(some, "some"), _parse_total(full, "full") if full else 0


def _parse_total(line: bytes, name: str) -> int:
    return parse_number(line.partition(b" total=")[2].partition(b"\n")[0], "pressure", f"{name} total")


def parse_pressure(data: bytes) -> Pressure:
    """Both lines whole. Raises KernelFormatError when ``some`` is missing or a line is malformed."""
    lines = {line[:5]: line for line in data.split(b"\n")}
    if b"some " not in lines:
        raise KernelFormatError("pressure", "some")
    full = lines.get(b"full ")
    return Pressure(_parse_line(lines[b"some "], "some"), _parse_line(full, "full") if full else None)


def _parse_line(line: bytes, name: str) -> PressureLine:
    values = dict(word.partition(b"=")[::2] for word in line.split()[1:])
    return PressureLine(
        _parse_average(values.get(b"avg10", b""), f"{name} avg10"),
        _parse_average(values.get(b"avg60", b""), f"{name} avg60"),
        _parse_average(values.get(b"avg300", b""), f"{name} avg300"),
        parse_number(values.get(b"total", b""), "pressure", f"{name} total"),
    )


def _parse_average(text: bytes, field: str) -> float:
    # The kernel prints "%lu.%02lu" per cent (kernel/sched/psi.c); float() would also take "nan" and "1e9".
    whole, _, hundredths = text.partition(b".")
    if len(hundredths) != 2:
        raise KernelFormatError("pressure", field)
    return (parse_number(whole, "pressure", field) * 100 + parse_number(hundredths, "pressure", field)) / 10_000


def open_trigger(path: str, kind: str, stall_us: int, window_us: int) -> int:
    """A descriptor that polls POLLPRI once ``kind`` (``some`` or ``full``) stall reaches ``stall_us`` within
    ``window_us``.

    POLLERR means that the source is gone. One trigger per descriptor; closing it ends the trigger. Without
    CAP_SYS_RESOURCE the kernel (6.4 and later) takes windows of whole multiples of 2 s only, and at most 10
    s.

    Raises OSError: EINVAL for windows that are not allowed, ENOENT or EOPNOTSUPP where PSI is off, EACCES or
    EPERM where not permitted.
    """
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(fd, b"%b %d %d\0" % (kind.encode(), stall_us, window_us))
    except BaseException:
        os.close(fd)
        raise
    return fd
