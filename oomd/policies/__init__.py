"""Policies: pure orders of candidates, best victim first."""

from oomd.policies.freeable import Freeable

ALL = (Freeable,)
"""Every policy, by the key ``name`` in the configuration."""
