"""Shared by the benchmarks: worker processes, training steps of both sides, files of results."""
