"""Scores, and the files and services that metrics are written to."""
