"""Measurements: ours beside others, in one run, on one machine."""
