"""Libraries are loaded only where somebody wants metrics."""

from __future__ import annotations

import json
import subprocess
import sys


def test_without_metrics_nothing_is_loaded() -> None:
    """The outside process of somebody who does not want them has no HTTP server in memory."""
    code = (
        "import sys, json; import oomd.outside.main as main\n"
        "assert main.start_metrics({}, None, None, None) is None\n"
        "assert main.start_metrics({'metrics': {'listen': [], 'textfile': ''}}, None, None, None) is None\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    loaded = json.loads(done.stdout)
    assert "oomd.outside.metrics.opening" in loaded
    assert not {"prometheus_client", "http.server", "oomd.outside.metrics.web"} & set(loaded)
