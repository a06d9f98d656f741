"""Reads texts and labels, tokenizes them, and makes batches of fixed shapes."""
