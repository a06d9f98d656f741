"""Benchmarks, run by `python -m benchmarks.NAME`; their results are kept in `benchmarks/results/`."""
