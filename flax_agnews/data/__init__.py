"""Texts and labels, from their source to fixed-shape batches."""
