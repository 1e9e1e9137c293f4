"""Which reaper backend serves."""

from __future__ import annotations

from oomd.reap.mrelease import MreleaseReaper
from oomd.reap.none import NoReaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.reap.base import Reaper


def choose_reaper(backend: str, *, kernel_has_mrelease: bool) -> Reaper:
    """The backend of this name; ``auto`` takes the best that the kernel has (told by a probe, never by its version)."""
    if backend == "mrelease" or (backend == "auto" and kernel_has_mrelease):
        return MreleaseReaper()
    return NoReaper()
