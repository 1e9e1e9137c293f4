"""The marker of the tests that boot a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_configure(config: pytest.Config) -> None:
    """`-m "not vm"` leaves them out."""
    config.addinivalue_line("markers", "vm: boots a small machine under QEMU and runs it out of memory")
