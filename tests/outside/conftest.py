"""For all tests of the outside process: what it gives up after some seconds is given up here only where a test says so.
On a busy machine a thread may not run for as long.
"""

from __future__ import annotations

import pytest

PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own patience."""
    for name in (
        "dbus.AUTH_S",
        "station.AUTH_S",
        "desktop.CALL_S",
        "desktop.PATIENCE_S",
        "recorder.FLUSH_S",
        "reporter.FLUSH_S",
        "program.DYING_S",
        "metrics.service.ANSWER_S",
    ):
        monkeypatch.setattr(f"oomd.outside.{name}", PATIENCE_S)
