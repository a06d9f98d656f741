"""The output folder of an experiment: its files, their contents, and the lock that one process holds on it."""
