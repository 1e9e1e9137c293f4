"""The VM lab: a small real machine (QEMU, Debian's packages) that runs out of memory, and what came of it."""
