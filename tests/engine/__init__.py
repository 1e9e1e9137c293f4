"""Tests of oomd/engine."""
