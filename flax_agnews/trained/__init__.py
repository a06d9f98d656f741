"""A finished run as a classifier: loaded, asked, measured, exported."""
