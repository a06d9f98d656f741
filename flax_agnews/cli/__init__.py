"""The command line: flags and YAML to settings, and what the commands share."""
