"""The output folder of an experiment: its files, their contents, and its lock for one writing process."""
