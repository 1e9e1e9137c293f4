"""For all tests."""

from __future__ import annotations

from hypothesis import settings

# How long one example takes says something of the machine that it ran on, and of what else ran there.
settings.register_profile("oomd", deadline=None)
settings.load_profile("oomd")
