"""Tests of oomd/bench, the gates of ``make bench``, and measurements that are run by hand."""
