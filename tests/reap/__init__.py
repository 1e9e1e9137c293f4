"""Tests of oomd/reap."""
