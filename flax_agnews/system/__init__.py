"""Files, terminal, signals and machine: what is the same in any program."""
