"""Ranges and names of settings, checked for the command line and the library alike."""
