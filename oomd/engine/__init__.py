"""The decision core: pure functions of values."""
