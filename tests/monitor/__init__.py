"""Tests of oomd/monitor."""
