"""/proc/swaps: the swap areas; proc_swaps(5)."""

from __future__ import annotations

from oomd.kernel.files import KernelFormatError, parse_number, unescape_octal
from oomd.kernel.process import decode_name
from oomd.model.values import dataclass

_FILE = "/proc/swaps"


@dataclass(frozen=True, slots=True)
class SwapDevice:
    """One swap area."""

    name: str
    """Its path, as text."""
    type: str
    """``partition`` or ``file``, as the kernel says."""
    size_bytes: int
    used_bytes: int
    priority: int

    @property
    def kind(self) -> str:
        """``zram`` (compressed, in memory: filling it frees less than its size), ``disk`` or ``file``."""
        if self.name.rpartition("/")[2].startswith("zram"):
            return "zram"
        return "file" if self.type == "file" else "disk"


def parse_swaps(data: bytes) -> tuple[SwapDevice, ...]:
    """The areas in the kernel's order; none where only the heading stands, or nothing at all.

    Sizes are given in KiB (mm/swapfile.c). Raises KernelFormatError when a line is malformed.
    """
    return tuple(_parse_line(line) for line in data.split(b"\n")[1:] if line)


def _parse_line(line: bytes) -> SwapDevice:
    # Spaces, tabs and newlines within the name are written as \040 and so on; other white space is not, so
    # that split() would part it.
    name, _, rest = line.replace(b"\t", b" ").partition(b" ")
    try:
        kind, size, used, priority = rest.split()
        return SwapDevice(
            name=decode_name(unescape_octal(name)),
            type=decode_name(kind),
            size_bytes=parse_number(size, _FILE, "Size") * 1024,
            used_bytes=parse_number(used, _FILE, "Used") * 1024,
            priority=int(priority),
        )
    except KernelFormatError:
        raise
    except ValueError:
        raise KernelFormatError(_FILE, "a line") from None
