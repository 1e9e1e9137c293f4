"""The other process: everything that may block, fork, allocate or be attacked."""
