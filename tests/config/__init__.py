"""Tests of oomd/config."""
