"""Tests of oomd/policies."""
