"""Preferences on real processes: what a command line says spares its process, and nobody waits for long for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.test_run import daemon, hear, tell, tree

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


def test_a_command_line_protects(tmp_path: Path) -> None:
    """The larger process lives because of its command line, which was read before it mattered; the smaller one dies."""
    config = tmp_path / "oomd.yaml"
    config.write_text("protect: [{cmdline: '* hold keep *', exe: '/*'}]\n")
    with tree() as root, daemon(root, tmp_path, "--config", str(config)) as run:
        run.wait_event("start")
        tell(root, "hold keep 150")
        assert hear(root, "holding").startswith("holding keep")
        tell(root, "hold other 110")
        event = run.wait_event("decision")
        assert event["decision"]["target"]["comm"] == "other"
        spared = {each["comm"]: each["why"] for each in event["rejected"]}
        assert spared["keep"] == "is protected by its command line * hold keep * and executable /*"
        assert run.wait_event("outcome")["comm"] == "other"
