"""A trial in a process of its own: the library's experiment and compiled steps, one step a repeat."""

import json
import time
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from benchmarks import ours
from benchmarks.harness import WARM_UP, Built, Sample, Settings
from benchmarks.peak import product_rate
from benchmarks.trial import SEED, Trial
from benchmarks.without import CHANGES, Change, resized
from benchmarks.work import Needed, step_flops
from flax_agnews.cli import arguments
from flax_agnews.config import Config
from flax_agnews.data.encoded import Split, encode_corpus
from flax_agnews.data.sources import load_corpus
from flax_agnews.data.tokens import Ragged, load_tokenizer
from flax_agnews.errors import UserError
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.training.activation_cache import Activations
from flax_agnews.training.memory import peak_bytes, reset_peak
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Inputs, Program, plan_batches

BATCHES = 20
"""Of the training file's texts, where nothing else is asked for; shapes are planned for every run's five epochs."""


class Steps:
    """A trial's strategy, compiled, with its training state.

    Args:
        trial: what is measured.
        folder: for files.
    """

    def __init__(self, trial: Trial, folder: str) -> None:
        self.trial, change = trial, CHANGES[trial.without] if trial.without else Change()
        change.prepare()
        request = arguments.parse([*flags(trial, folder), *change.flags])
        strategies = [change.strategy] if change.strategy else request.entries
        experiment = Experiment(request.config, strategies, overwrite=True)
        devices = change.devices(experiment.devices.mode, experiment.devices.devices)
        self.setup, self.body, real = experiment.setups[0], experiment.base.config, experiment.data.train
        texts = self._texts(change, real.tokens)
        # Real tokens: those of the texts, without what a switch put before or behind them.
        self.lengths = texts.lengths if trial.mean_length else real.tokens.lengths
        batches = experiment.batches
        if texts is not real.tokens:
            batches = plan_batches(Split(texts, real.labels), request.config.train, experiment.seeds, devices)
        data = replace(experiment.data, train=Split(texts, real.labels))
        read = Activations(request.config, data, devices).inputs(self.setup, experiment.shared, batches)
        self.batches, self.cache_seconds = change.batches(read.batches), read.seconds
        self.program = Program(
            self.setup,
            devices,
            experiment.shared,
            Inputs(self.batches, lengths=self.lengths),
            change.loss,
            group_sizes=[trial.seeds],
        )
        self.seeds = experiment.seeds[: trial.seeds]
        self.full_batches = len(real) // trial.batch_size
        if not self.full_batches:
            raise UserError(f"{trial.data}: {len(real)} training texts; at least a batch of {trial.batch_size} needed")
        self.state, self.frozen = self.program.start_together(self.seeds)

    def _texts(self, change: Change, texts: Ragged) -> Ragged:
        if self.trial.mean_length:
            return resized(texts, self.trial.mean_length, self.body.n_positions)
        return change.texts(texts, self.body)

    def place(self, repeat: int) -> tuple[int, int]:
        """(epoch, step) of a repeat: every full batch of an epoch, then the next one's."""
        return divmod(repeat, self.full_batches)

    def rows(self, repeat: int) -> np.ndarray:
        """The texts of a repeat's batches, of all seeds."""
        return np.concatenate([self.batches.rows(seed, *self.place(repeat)) for seed in self.seeds])

    def measure(self, repeat: int) -> Sample:
        """A complete step: batch put together, forward, backward, update, loss read back."""
        started = time.perf_counter()
        self.state, metrics = self.program.train_together(self.state, self.frozen, self.seeds, *self.place(repeat))
        loss = float(np.sum(metrics["loss"]))
        jax.block_until_ready(self.state)
        seconds = time.perf_counter() - started
        assert np.isfinite(loss), f"the loss is {loss}"
        rows = self.rows(repeat)
        return Sample(seconds, int(self.lengths[rows].sum()), len(rows))

    def warm_up(self, repeats: int) -> Sample:
        """Every shape that will be measured, whose first run is slow, and the first epoch's longest batch."""
        first = {self.batches.joint_batch(self.seeds, *self.place(r))[0]: r for r in reversed(range(repeats))}
        for repeat in first.values():
            self.measure(repeat)
        return self.measure(max(range(self.full_batches), key=lambda step: int(self.lengths[self.rows(step)].sum())))

    @property
    def waste(self) -> float:
        """Share of the computed tokens, over all planned batches, that are no real text's."""
        planned = self.batches.data.lengths.sum()  # with what a switch put into the texts
        return 1 - (1 - self.batches.waste) * float(self.lengths.sum() / planned)

    def flops(self, repeat: int) -> float:
        """Needed for a repeat's step."""
        setup = self.setup
        needed = Needed.of(setup.trainable, setup.model.shapes, self.body.n_layer, self.batches.data.depth)
        return step_flops(self.body, setup.model.classes, self.lengths[self.rows(repeat)], needed)


def flags(trial: Trial, folder: str) -> list[str]:
    """The command line of the experiment, which then has all that the library does by default."""
    settings = Settings(
        "",
        trial.tokenizer,
        trial.data,
        trial.batch_size,
        seed=SEED,
        max_length=trial.max_length,
        shapes=trial.shapes,
    )
    chosen: dict[str, Any] = {
        "output": folder,
        "model.from_config": json.dumps({"model_type": "gpt2", **trial.body}),
        "data.limit_train": trial.rows or int(BATCHES * trial.batch_size / 0.9) + 1,
        "data.limit_test": 64,
        "train.runs": trial.runs,
        "train.parallel_seeds": trial.seeds,
    }
    named = (part for name, value in chosen.items() for part in (f"--{name}", str(value)))
    return [*ours.flags(settings, trial.strategy, trial.dtype), *named]


def preparation(config: Config) -> dict[str, float]:
    """Seconds to read the texts, to tokenize them (unless that was done before), and to plan every run's batches."""
    tokenizer, devices = load_tokenizer(config.model.tokenizer or ""), Devices.of(config.parallel)
    times = [time.perf_counter()]
    corpus = load_corpus(config.data)
    times.append(time.perf_counter())
    data = encode_corpus(corpus, tokenizer, config.data.max_length)
    times.append(time.perf_counter())
    plan_batches(data.train, config.train, range(config.train.runs), devices)
    times.append(time.perf_counter())
    return dict(zip(("reading", "tokenizing", "planning"), np.diff(times).tolist(), strict=True))


def build(trial: Trial, folder: str, repeats: int) -> Built:
    """The trial, warm; facts as JSON has them. Memory is the peak of a step of the largest shape."""
    prepared = preparation(arguments.parse(flags(trial, folder)).config) if trial.rows else {}
    steps = Steps(trial, folder)
    reset_peak()
    warm = steps.warm_up(repeats)
    device = steps.program.devices.devices[0]
    facts = {
        "memory_bytes": peak_bytes([device]),
        "compile_seconds": steps.program.compile_seconds,
        "cache_seconds": steps.cache_seconds,
        "waste": steps.waste,
        "shapes": len(steps.batches.shapes),
        "flops": [steps.flops(repeat) for repeat in range(repeats)],
        "peak_flops_per_second": product_rate(trial.dtype),
        "preparation": prepared,
        "mean_tokens": float(steps.lengths.mean()),
        "on": {"backend": jax.default_backend(), "device": device.device_kind},
    }
    return Built({trial.label: lambda repeat: warm if repeat == WARM_UP else steps.measure(repeat)}, facts)
