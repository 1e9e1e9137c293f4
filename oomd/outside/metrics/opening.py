"""Whether there are metrics at all: only then are their libraries loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oomd.outside.killer import Killer
    from oomd.outside.ledger import Ledger
    from oomd.outside.metrics.service import Service
    from oomd.outside.reporter import Reporter


def start_metrics(options: dict[str, Any], killer: Killer, ledger: Ledger, reporter: Reporter) -> Service | None:
    """What the configuration asks for; None where it asks for nothing."""
    asked = options.get("metrics") or {}
    if not any(asked.get(name) for name in ("listen", "textfile", "fds")):
        return None
    from oomd.outside.metrics.service import Service

    service = Service(asked, killer, ledger, reporter)
    service.start()
    return service
