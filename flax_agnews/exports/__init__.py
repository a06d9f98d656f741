"""A trained classifier in the formats of others."""
