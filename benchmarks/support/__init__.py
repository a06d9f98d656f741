"""What the benchmarks share: worker processes, training steps of both sides, files of results."""
