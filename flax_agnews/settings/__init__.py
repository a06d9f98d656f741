"""Checks of settings for the command line and the library, their documentation, and hints for unknown names."""
