"""Files, terminal, signals, machine and text formats: helpers that know nothing of machine learning."""
