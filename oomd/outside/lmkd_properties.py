"""The killer asks for lmkd's properties (UPDATE_PROPS): read here, where waiting for a disk holds up nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oomd.config.lmkd_properties import PropertiesError, read_properties

if TYPE_CHECKING:
    from oomd.model.report import Plain

REQUEST = "lmkd_properties"


def answer_properties(path: str) -> Plain:
    """What the killer is answered that asks for it."""
    try:
        return {"ok": True, "properties": read_properties(path)}
    except PropertiesError as error:
        return {"ok": False, "text": str(error)}
