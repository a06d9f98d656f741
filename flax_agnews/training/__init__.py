"""A strategy's way from a plan to a finished run."""
