"""Runs an experiment of a benchmark that people stop and go on with."""

import sys

from flax_agnews.experiment.experiment import Experiment
from flax_agnews.runs.results import Results
from flax_agnews.system.interrupt import Stopped


def run_or_exit(experiment: Experiment) -> Results:
    """Runs an experiment; after Ctrl-C or SIGTERM, when all is saved, exits with one line and 128 + the signal."""
    try:
        return experiment.run()
    except Stopped as stop:
        print(f"{stop.where}; the same command goes on", file=sys.stderr)
        raise SystemExit(128 + stop.signal) from None
