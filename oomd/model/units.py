"""Sizes, shares and durations: parse and print ``64MiB``, ``5%``, ``1.5s``.

Amounts of memory are plain ``int`` bytes and times plain ``int`` microseconds everywhere else; the suffix of a name
(``_bytes``, ``_us``)
carries the unit.
"""

from __future__ import annotations

from oomd.model.threshold import Threshold

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
SECOND_US = 1_000_000
MILLISECOND_US = 1_000

_SIZES = {
    "B": 1,
    "KiB": KIB,
    "MiB": MIB,
    "GiB": GIB,
    "TiB": 1024 * GIB,
    "K": KIB,
    "M": MIB,
    "G": GIB,
    "T": 1024 * GIB,
}
_DURATIONS = {
    "us": 1,
    "ms": MILLISECOND_US,
    "s": SECOND_US,
    "m": 60 * SECOND_US,
    "min": 60 * SECOND_US,
    "h": 3600 * SECOND_US,
}


_SPANS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


Count = int
"""A plain number of things; aliases name the kind of an option to the configuration's loader (config/schema.py)."""
Rate = int
"""Bytes per second."""
Share = float
"""A fraction of a whole, at most 1."""
Percent = float
"""A fraction that may exceed 1."""
Ratio = float
Subject = str
"""``machine``, or one or more patterns of cgroups with commas between them."""
CgroupGlob = str
"""One or more patterns of cgroups, with commas between them."""
NoCgroups = str
"""The same, or empty: none."""


class UnitError(ValueError):
    """The text is not a value of the wanted unit; the message says what would be."""


MOST_DIGITS = 18
"""No amount of anything here needs more; longer numbers are slips, and Python refuses to read the longest."""


def _split(text: str) -> tuple[int, int, str]:
    """``1.5GiB`` as (15, 10, "GiB"): a fraction, so that nothing is rounded on the way."""
    text = text.strip()
    end = 0
    while end < len(text) and (text[end] in "0123456789." and text[end].isascii()):
        end += 1
    number, unit = text[:end], text[end:].strip()
    if not number or number.count(".") > 1 or number == ".":
        raise UnitError(f"{text!r} does not begin with a number")
    whole, _, decimals = number.partition(".")
    if len(whole.lstrip("0")) + len(decimals) > MOST_DIGITS:
        raise UnitError(f"'{number[:MOST_DIGITS]}…' is too long for a number")
    return int(whole.lstrip("0") + decimals or "0"), int(10 ** len(decimals)), unit


def _mistaken(unit: str, text: str) -> str:
    return f"unknown unit {unit!r} in {text!r}" if unit else f"{text!r} has no unit"


def parse_size(text: str) -> int:
    """Bytes of ``512B``, ``64MiB``, ``1.5GiB``. ``K``, ``M``, ``G``, ``T`` are binary units, as systemd reads them.

    A unit is needed: whoever writes ``5`` means five of something, and hardly bytes.
    """
    number, divisor, unit = _split(text)
    if unit not in _SIZES:
        raise UnitError(f"{_mistaken(unit, text)}: a size looks like 64MiB or 1GiB")
    return number * _SIZES[unit] // divisor


def parse_share(text: str) -> float:
    """The fraction of ``5%``: 0.05. Between 0 % and 100 %."""
    number, divisor, unit = _split(text)
    if unit != "%":
        raise UnitError(f"{text!r} is not a share: it looks like 5%")
    if number > 100 * divisor:
        raise UnitError(f"{text!r} is above 100%")
    return number / (100 * divisor)


def parse_percent(text: str) -> float:
    """The fraction of ``150%``: 1.5. At most 10000 %."""
    number, divisor, unit = _split(text)
    if unit != "%":
        raise UnitError(f"{text!r} is no percentage: it looks like 150%")
    if number > 10_000 * divisor:
        raise UnitError(f"{text!r} is above 10000%")
    return number / (100 * divisor)


def parse_ratio(text: str) -> float:
    """``1.25``: how many times."""
    number, divisor, unit = _split(text)
    if unit:
        raise UnitError(f"{text!r} is no plain number")
    return number / divisor


def parse_count(text: str) -> int:
    """``500``: a whole number of things."""
    number, divisor, unit = _split(text)
    if unit or divisor != 1:
        raise UnitError(f"{text!r} is no whole number")
    return number


def parse_rate(text: str) -> int:
    """Bytes per second of ``10MiB/s``; ``/s`` may be left out."""
    return parse_size(text.strip().removesuffix("/s"))


def parse_cgroup_globs(text: str) -> str:
    """Patterns of cgroups: ``/system.slice/*``, several with commas; each begins at the root."""
    patterns = [pattern.strip() for pattern in text.split(",")]
    for pattern in patterns:
        if not pattern.startswith("/") or {".", ".."} & set(pattern.split("/")) or not pattern.isprintable():
            raise UnitError(f"{pattern!r} is no cgroup: it looks like /system.slice/*")
    return ",".join(patterns)


def parse_no_cgroups(text: str) -> str:
    """``none``, or patterns of cgroups."""
    return "" if text == "none" else parse_cgroup_globs(text)


def parse_subject(text: str) -> str:
    """``machine``, or patterns of cgroups."""
    return text if text == "machine" else parse_cgroup_globs(text)


def parse_duration(text: str) -> int:
    """Microseconds of ``1.5s``, ``200ms``, ``10m``. A unit is needed: ``10`` alone could mean anything."""
    number, divisor, unit = _split(text)
    if unit not in _DURATIONS:
        raise UnitError(f"{_mistaken(unit, text)}: a duration looks like 1.5s or 200ms")
    return number * _DURATIONS[unit] // divisor


def parse_threshold(text: str) -> Threshold:
    """A :class:`Threshold` of ``5%``, ``1GiB``, ``min(5%, 1GiB)`` or ``max(…)``."""
    text = text.strip()
    for combine in ("min", "max"):
        if text.startswith(combine + "(") and text.endswith(")"):
            parts = [part.strip() for part in text[len(combine) + 1 : -1].split(",")]
            shares = [parse_share(part) for part in parts if part.endswith("%")]
            sizes = [parse_size(part) for part in parts if not part.endswith("%")]
            if len(shares) != 1 or len(sizes) != 1:
                raise UnitError(f"{text!r} needs one share and one size, as in {combine}(5%, 1GiB)")
            return Threshold(share=shares[0], size_bytes=sizes[0], combine=combine)
    if text.endswith("%"):
        return Threshold(share=parse_share(text))
    return Threshold(size_bytes=parse_size(text))


def format_size(size_bytes: int) -> str:
    """``1.5 GiB``, ``340 MiB``, ``12 KiB``: three figures are enough for people."""
    sign, amount = ("-" if size_bytes < 0 else ""), abs(size_bytes)
    for unit, name in ((1024 * GIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if amount >= unit:
            value = amount / unit
            return f"{sign}{value:.1f} {name}" if value < 10 else f"{sign}{value:.0f} {name}"
    return f"{sign}{amount} B"


def format_share(share: float) -> str:
    """``5%``, ``2.5%``; ten decimals at most, and never an exponent, which nobody could read back."""
    text = f"{share * 100:.10f}".rstrip("0").rstrip(".")
    return f"{text}%"


def format_span(us: int) -> str:
    """``10min``, ``9min 58s``, ``2h 5min``, ``3d 4h``: two units, for what lasts long."""
    seconds = max(0, us) // SECOND_US
    for (name, length), (smaller, part) in zip(_SPANS, _SPANS[1:], strict=False):  # noqa: RUF007 - saves an import
        if seconds >= length:
            rest = seconds % length // part
            return f"{seconds // length}{name}" + (f" {rest}{smaller}" if rest else "")
    return f"{seconds}s"


def format_duration(duration_us: int) -> str:
    """``1.5s``, ``12ms``, ``350us``: three or four figures are enough for people."""
    if duration_us >= 1000 * SECOND_US:
        return f"{duration_us / SECOND_US:.0f}s"
    if duration_us >= SECOND_US:
        return f"{duration_us / SECOND_US:.4g}s"
    if duration_us >= 100 * MILLISECOND_US:
        return f"{duration_us / MILLISECOND_US:.0f}ms"
    if duration_us >= MILLISECOND_US:
        return f"{duration_us / MILLISECOND_US:.3g}ms"
    return f"{duration_us}us"


def format_exact_duration(duration_us: int) -> str:
    """The text that :func:`parse_duration` reads back: ``2s``, ``1500ms``."""
    for unit, name in ((SECOND_US, "s"), (MILLISECOND_US, "ms")):
        if duration_us % unit == 0:
            return f"{duration_us // unit}{name}"
    return f"{duration_us}us"


def format_threshold(threshold: Threshold) -> str:
    """The text that :func:`parse_threshold` reads back."""
    parts = []
    if threshold.share is not None:
        parts.append(format_share(threshold.share))
    if threshold.size_bytes is not None:
        parts.append(format_exact_size(threshold.size_bytes))
    return parts[0] if len(parts) == 1 else f"{threshold.combine}({', '.join(parts)})"


def format_exact_size(size_bytes: int) -> str:
    """The text that :func:`parse_size` reads back: ``64MiB``, ``1000B``."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size_bytes and size_bytes % unit == 0:
            return f"{size_bytes // unit}{name}"
    return f"{size_bytes}B"
