"""Detectors: pure rules that say "now", with their evidence.

``ALL`` loads every one of them (oomd/detectors/all.py) when it is first asked for; the killer asks for those of its
configuration alone.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.detectors.all import ALL as ALL


def __getattr__(name: str) -> object:
    if name == "ALL":
        from oomd.detectors.all import ALL

        return ALL
    raise AttributeError(name)
