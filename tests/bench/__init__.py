"""Tests of oomd/bench, and the gates of ``make bench``."""
