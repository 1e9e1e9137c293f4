"""The linters are tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",), ("lint-imports",)],
    ids=["ruff check", "ruff format", "mypy", "lint-imports"],
)
def test_linter_is_content(command: tuple[str, ...]) -> None:
    """No finding; a linter that is missing is a failure where CI runs."""
    program = Path(sys.executable).with_name(command[0])
    if not program.exists() and shutil.which(command[0]) is None and "CI" not in os.environ:
        pytest.skip(f"{command[0]} is not installed; CI has it")
    path = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False, env=path)
    assert done.returncode == 0, done.stdout + done.stderr
