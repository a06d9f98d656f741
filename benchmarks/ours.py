"""Our side of a comparison, in a process of its own: the library's experiment and compiled steps, as users get them."""

import time
from typing import Any

import jax
import numpy as np

from benchmarks.harness import WARM_UP, Built, Sample, Settings, Suite
from flax_agnews.cli import arguments
from flax_agnews.errors import UserError
from flax_agnews.experiment.experiment import Experiment

STEPS = 2
"""Random batches a repeat."""


class Ours:
    """A strategy, compiled for the texts that batches are drawn from.

    The shapes are planned over three runs of five epochs, as in the original experiment; only the first epoch is used.

    Args:
        settings: of the benchmark.
        strategy, precision: what is measured.
        folder: for files.
    """

    def __init__(self, settings: Settings, strategy: str, precision: str, folder: str) -> None:
        request = arguments.parse([*flags(settings, strategy, precision), "--output", f"{folder}/{strategy}"])
        experiment = Experiment(request.config, request.entries, overwrite=True)
        self.base = experiment.base
        self.program = experiment.compile(experiment.setups[0])
        self.seed = experiment.seeds[0]
        self.data, self.batches = experiment.data.train, self.program.batches
        if len(self.data) < settings.texts:
            raise UserError(f"{settings.data}: has {len(self.data)} training texts; {settings.texts} are needed")
        self.state, self.frozen = self.program.start(self.seed)

    def rows(self, repeat: int) -> list[list[int]]:
        """The texts of a repeat's batches; the warm-up has a batch of every shape, in which its first run is slow."""
        return [self.batches.rows(self.seed, 0, step).tolist() for step in self._steps(repeat)]

    def measure(self, repeat: int) -> Sample:
        """Trains on a repeat's batches."""
        steps = self._steps(repeat)
        rows = np.concatenate(self.rows(repeat))
        started = time.perf_counter()
        for step in steps:
            self.state, metrics = self.program.train_step(self.state, self.frozen, self.seed, 0, step)
            loss = float(np.sum(metrics["loss"]))
        jax.block_until_ready(self.state)
        seconds = time.perf_counter() - started
        assert np.isfinite(loss), f"the loss is {loss}"
        return Sample(seconds, int(self.data.tokens.lengths[rows].sum()), len(rows))

    def _steps(self, repeat: int) -> list[int]:
        every = range(self.batches.steps_per_epoch)
        if repeat == WARM_UP:
            return list({self.batches.batch(self.seed, 0, step)[0]: step for step in every}.values())
        return [(STEPS * repeat + k) % len(every) for k in range(STEPS)]

    @property
    def facts(self) -> dict[str, Any]:
        """What is known besides speed. `cache_seconds`: of the frozen activations of `cached_tokens` tokens."""
        return {
            "compile_seconds": self.program.compile_seconds,
            "cache_seconds": self.program.cache_seconds,
            "cached_tokens": int(self.data.tokens.lengths.sum()),
            "waste": self.batches.waste,
            "shapes": len(self.batches.shapes),
        }


def flags(settings: Settings, strategy: str, precision: str) -> list[str]:
    """The command line of the experiment; what isn't named is the default."""
    chosen: dict[str, Any] = {
        "strategy": strategy,
        "model.name": settings.model,
        "model.tokenizer": settings.tokenizer,
        "model.dtype": precision,
        "model.dropout": 0,
        "data.source": settings.data,
        "data.max_length": settings.max_length,
        "data.limit_train": settings.limit_train,
        "data.limit_test": settings.texts // 10,
        "train.batch_size": settings.batch_size,
        "train.seed": settings.seed,
        "train.shapes": settings.shapes,
        "parallel.devices": 1,
        "parallel.keep_memory": str(settings.allocator).lower(),
        "checkpoint.enabled": "false",
        "tracking.wandb": "disabled",
    }
    if strategy == "partial":
        chosen["train.cache_frozen"] = "on"
    return [part for name, value in chosen.items() for part in (f"--{name}", str(value))]


def build(settings: Settings, suite: Suite, folder: str) -> Built:
    """Our contender; beside `partial` also our own `full` in the same precision."""
    strategies = {"ours": suite.strategy}
    if suite.strategy == "partial":
        strategies["ours, full"] = "full"
    ours = {name: Ours(settings, strategy, suite.precision, folder) for name, strategy in strategies.items()}
    main = ours["ours"]
    body, weights = main.base.config, main.base.parameters
    facts = {
        "on": {
            "backend": jax.default_backend(),
            "device": jax.devices()[0].device_kind,
            "model": {
                "n_layer": body.n_layer,
                "n_embd": body.n_embd,
                "parameters": sum(w.size for w in weights.values()),
            },
        },
        "mean_tokens": float(main.data.tokens.lengths.mean()),
        "rows": {repeat: main.rows(repeat) for repeat in range(WARM_UP, settings.repeats)},
        "ours": {name: one.facts for name, one in ours.items()},
    }
    return Built({name: one.measure for name, one in ours.items()}, facts)
