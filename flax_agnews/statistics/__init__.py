"""Intervals, comparisons, ranks and selection of strategies, from per-text outcomes of several seeds; arrays only."""
