"""Compares strategies, each from several seeds: from the settings to an output folder."""
