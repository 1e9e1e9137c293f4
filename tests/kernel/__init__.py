"""Tests of the kernel layer: captured files, real reads of this machine, and arbitrary bytes."""
