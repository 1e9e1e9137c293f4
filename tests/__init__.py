"""Tests of oomd; the folders mirror the package."""
