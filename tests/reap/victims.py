"""Children of the test's own that are there to be killed."""

from __future__ import annotations

import subprocess
import sys

from tests.integration.harness import ACTORS


def hold(mib: int) -> subprocess.Popen[bytes]:
    """One that owns so much memory."""
    child = subprocess.Popen([sys.executable, ACTORS, "hold", "victim", str(mib)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    return child
