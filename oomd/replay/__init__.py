"""Ask the rules again about what was seen: recorded trees, and recordings of the daemon. Nobody is signalled."""
