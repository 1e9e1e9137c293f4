"""Plain frozen values that every part may use; this package imports nothing of ours."""
