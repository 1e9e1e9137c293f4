"""Real processes, real kills: every one started by the test itself, in a scope of its own."""
