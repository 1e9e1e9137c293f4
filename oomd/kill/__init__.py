"""Act: the one gate that grants warrants, and the executor that walks a victim from TERM to KILL."""
