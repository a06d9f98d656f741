"""The command line: parses flags and YAML files into settings, and holds code that all commands share."""
