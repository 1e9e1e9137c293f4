"""One file per kernel interface: facts, no opinions."""
