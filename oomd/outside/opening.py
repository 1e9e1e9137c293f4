"""Puts the control socket and what stands behind it together."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from oomd.outside.chronicle import Chronicle
from oomd.outside.control import Control
from oomd.outside.desk import Desk
from oomd.outside.doorway import Doorway
from oomd.outside.peers import Rights, group_id
from oomd.outside.reporter import note

if TYPE_CHECKING:
    from oomd.outside.killer import Killer
    from oomd.outside.ledger import Ledger
    from oomd.outside.reporter import Reporter


def start_control(options: dict[str, Any], killer: Killer, ledger: Ledger, reporter: Reporter) -> Control | None:
    """Serve, where ``options`` (of the outside process) name a directory. Before the link is read."""
    if not options.get("control"):
        return None

    def say(text: str) -> None:
        reporter.put(note(text))

    def degrade(text: str) -> None:
        event = {"event": "degraded", "time": time.time(), "text": text}
        reporter.put(event)
        chronicle.note(event)

    group = options.get("control_group", "")
    gid = group_id(group) if group else None
    rights = Rights(os.geteuid(), group, gid)
    control = Control(Doorway(options["control"], gid, degrade), rights, say, told=True)
    signal.signal(signal.SIGIO, lambda *_: control.check())
    chronicle = Chronicle(ledger, control.wake)
    killer.listen(chronicle.note)

    if group and gid is None:
        degrade(f"control.group: there is no group {group!r}: only {rights.changers} may ask")
    about = {
        "started": time.time(),
        "runtime_dir": options["control"],
        "config": options.get("config_path"),
        "readers": rights.readers,
        "changers": rights.changers,
    }
    control.start(Desk(killer, chronicle, control.call_soon, about=about, not_written=lambda: reporter.dropped))
    return control
