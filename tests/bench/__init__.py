"""Measurements, side by side; run by hand or by make bench."""
