"""The output folder of an experiment: what its files are called and hold, and who may write there."""
