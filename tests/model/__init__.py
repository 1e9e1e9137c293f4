"""Tests of oomd/model."""
