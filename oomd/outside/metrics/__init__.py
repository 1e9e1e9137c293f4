"""Figures for Prometheus: counted from the killer's reports, read at the moment of a scrape, served within bounds."""
