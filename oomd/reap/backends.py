"""Which reaper backend serves."""

from __future__ import annotations

from oomd.reap.expedite import ExpediteReaper
from oomd.reap.mrelease import MreleaseReaper
from oomd.reap.none import NoReaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.reap.base import Reaper

BACKENDS = ("auto", "mrelease", "expedite", "none")


def choose_reaper(backend: str, *, kernel_has_mrelease: bool, beneath: bool = True) -> Reaper:
    """The backend of this name; ``auto`` takes the best that the kernel has (told by a probe with descriptor -1, never
    by its version): mrelease, else expedite, which lifts what hinders the victim. ``beneath``: whether expedite may
    call process_mrelease. Raises ValueError for another name.
    """
    if backend not in BACKENDS:
        raise ValueError(f"{backend!r} is no reaper backend")
    if backend == "none":
        return NoReaper()
    if backend == "mrelease" or (backend == "auto" and kernel_has_mrelease):
        return MreleaseReaper()
    return ExpediteReaper(beneath=beneath and kernel_has_mrelease)
