"""Against a real Prometheus: it scrapes, its promtool judges what we ship."""
