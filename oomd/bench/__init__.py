"""Measures on this machine how fast the memory of killed processes comes back."""
