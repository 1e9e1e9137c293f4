"""Tests of oomd/outside."""
