"""Tests of oomd.replay."""
