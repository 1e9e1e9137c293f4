"""Policies: pure orders of candidates, best victim first.

``ALL`` loads every one of them (oomd/policies/all.py) when it is first asked for; the killer asks for those of its
configuration alone.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oomd.policies.all import ALL as ALL


def __getattr__(name: str) -> object:
    if name == "ALL":
        from oomd.policies.all import ALL

        return ALL
    raise AttributeError(name)
