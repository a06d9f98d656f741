"""Measurements; what they printed is kept in `benchmarks/results/`."""
