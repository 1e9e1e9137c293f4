"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# How long one example takes is the machine's affair: others use it as well.
settings.register_profile("oomd", deadline=None)
settings.load_profile("oomd")
