"""Tests of oomd/detectors."""
