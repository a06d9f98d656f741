"""A comparison: strategies x seeds, from its settings to an output folder."""
