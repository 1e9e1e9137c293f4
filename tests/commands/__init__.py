"""Tests of oomd/commands."""
