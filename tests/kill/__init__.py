"""Tests of oomd/kill."""
