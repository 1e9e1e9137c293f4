"""The configuration: every key, its loader, its defaults."""
