"""oomd: a user-space out-of-memory killer that gets the memory back at once."""

__version__ = "0.1.0"
