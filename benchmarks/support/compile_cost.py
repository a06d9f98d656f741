"""Measures in a worker process what compiling a strategy's training step costs, for `benchmarks.waiting`."""

import time

import jax

from benchmarks.support.experiment_flags import trial_flags
from benchmarks.support.trial import Trial
from benchmarks.support.workers import Built
from flax_agnews.cli import arguments
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.training.program import Inputs, Program


def build(trial: Trial, folder: str) -> Built:
    """Compiles a trial's training step, with dropout and nothing cached; there is nothing else to measure.

    Its facts: `wall` and `processor` seconds for the update and the gradients of all shapes, several of which are
    compiled at once; `tokens` of each shape; and the backend and device, `on`.

    Args:
        trial: the configuration.
        folder: folder for the experiment's files.
    """
    flags = ["--model.dropout", "0.1", "--parallel.keep_compilations", "false"]
    request = arguments.parse([*trial_flags(trial, folder), *flags])
    experiment = Experiment(request.config, request.entries, overwrite=True)
    setup, shared, batches = experiment.setups[0], experiment.shared, experiment.batches
    before = time.process_time()
    program = Program(setup, experiment.devices, shared, Inputs(batches))
    facts = {
        "wall": program.compile_seconds,
        "processor": time.process_time() - before,
        "tokens": [shape.tokens for shape in batches.shapes],
        "on": {"backend": jax.default_backend(), "device": jax.devices()[0].device_kind},
    }
    return Built({}, facts)
