"""The library's training steps in a worker process, compiled as in an experiment, for benchmarks of training speed.

`build_trial` is for `benchmarks.throughput` and `benchmarks.growth`, `build_suite` for `benchmarks.vs_pytorch`.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from benchmarks.support.experiment_flags import experiment_flags, trial_flags
from benchmarks.support.product_rate import product_rate
from benchmarks.support.trial import Trial
from benchmarks.support.without_savings import CHANGES, Change, resized
from benchmarks.support.workers import WARM_UP, Built, Sample, Settings, Suite, batches_per_repeat
from flax_agnews.cli import arguments
from flax_agnews.config import Config
from flax_agnews.data.encoded import Split, encode_corpus
from flax_agnews.data.sources import load_corpus
from flax_agnews.data.tokens import Ragged, load_tokenizer
from flax_agnews.errors import UserError
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.training.activation_cache import Activations
from flax_agnews.training.batch_plans import plan_batches
from flax_agnews.training.compiler import Compiler
from flax_agnews.training.flops import Amount, training_flops
from flax_agnews.training.memory import peak_bytes, reset_peak
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Inputs, Program


def steps_per_repeat(backend: str) -> int:
    """Number of a trial's steps per repeat: where a step takes milliseconds, several, which are waited for once."""
    return 1 if backend == "cpu" else 8


class Steps(ABC):
    """Complete training steps of a compiled strategy; each starts from the training state after the previous one.

    Args:
        program: the compiled steps.
        seeds: the runs that train together.
        lengths: [texts] number of real tokens of each training text, without padding or prompt.
    """

    def __init__(self, program: Program, seeds: Sequence[int], lengths: np.ndarray) -> None:
        self.program, self.seeds, self.lengths = program, seeds, lengths
        self.batches = program.batches
        self.state, self.frozen = program.start_together(seeds)

    @abstractmethod
    def places(self, repeat: int) -> Sequence[tuple[int, int]]:
        """The (epoch, step) of each batch that a repeat trains on."""

    def rows_of_batches(self, repeat: int) -> list[np.ndarray]:
        """Indices of the texts in each batch of a repeat, of all seeds."""
        places = self.places(repeat)
        return [np.concatenate([self.batches.rows(seed, *place) for seed in self.seeds]) for place in places]

    def rows(self, repeat: int) -> np.ndarray:
        """Indices of the texts in all batches of a repeat."""
        return np.concatenate(self.rows_of_batches(repeat))

    def measure(self, repeat: int) -> Sample:
        """Measures training on a repeat's batches: batch assembly, forward, backward, update, loss read back."""
        places, rows = self.places(repeat), self.rows(repeat)
        losses, waiting = list[float](), list[Any]()
        started = time.perf_counter()
        for place in places:
            self.state, metrics = self.program.train_together(self.state, self.frozen, self.seeds, *place)
            losses += [float(np.sum(loss)) for loss in waiting]  # while the next step runs, as in `training.loop`
            waiting = [metrics["loss"]]
        losses += [float(np.sum(loss)) for loss in waiting]
        jax.block_until_ready(self.state)
        seconds = time.perf_counter() - started
        assert np.isfinite(losses).all(), f"the losses are {losses}"
        return Sample(seconds, int(self.lengths[rows].sum()), len(rows))


class SuiteSteps(Steps):
    """Steps of a suite in `benchmarks.vs_pytorch`: some batches per repeat, of the texts that both sides train on.

    Shapes are planned over three runs of five epochs, as in the original experiment; only the first epoch is used.

    Args:
        settings: settings of the benchmark.
        strategy, precision: strategy and type of products to measure.
        folder: folder for the experiment's files.
    """

    def __init__(self, settings: Settings, strategy: str, precision: str, folder: str) -> None:
        own = ["--output", f"{folder}/{strategy}", "--model.precision", "highest"]  # as PyTorch, whose default it is
        command_line = [*experiment_flags(settings, strategy, precision), *own]
        request = arguments.parse(command_line)
        experiment = Experiment(request.config, request.entries, overwrite=True)
        self.base, self.tokens = experiment.base, experiment.data.train.tokens.lengths
        program = experiment.compile(experiment.setups[0])
        if len(self.tokens) < settings.texts:
            raise UserError(f"{settings.data}: has {len(self.tokens)} training texts; {settings.texts} are needed")
        super().__init__(program, experiment.seeds[:1], self.tokens)

    def places(self, repeat: int) -> Sequence[tuple[int, int]]:
        """Consecutive batches; for the warm-up, one of every shape, since a shape's first run is slow."""
        every, (seed,) = range(self.batches.steps_per_epoch), self.seeds
        if repeat == WARM_UP:
            return [(0, step) for step in {self.batches.batch(seed, 0, step)[0]: step for step in every}.values()]
        batches = batches_per_repeat(jax.default_backend())
        return [(0, (batches * repeat + k) % len(every)) for k in range(batches)]

    @property
    def facts(self) -> dict[str, Any]:
        """Facts besides speed; `cache_seconds` is the time to cache frozen activations of `cached_tokens` tokens."""
        return {
            "compile_seconds": self.program.compile_seconds,
            "cache_seconds": self.program.cache_seconds,
            "cached_tokens": int(self.tokens.sum()),
            "waste": self.batches.waste,
            "shapes": len(self.batches.shapes),
        }


class TrialSteps(Steps):
    """Steps of a trial, with or without a saving, on full batches.

    Args:
        trial: the configuration to measure.
        folder: folder for the experiment's files.
        compiler: makes the compiler for the trial's devices, which becomes the attribute `compiler`.
    """

    def __init__(self, trial: Trial, folder: str, compiler: Callable[[Devices], Compiler] = Compiler) -> None:
        self.trial, change = trial, CHANGES[trial.without] if trial.without else Change()
        change.prepare()
        request = arguments.parse([*trial_flags(trial, folder), *change.flags])
        strategies = [change.strategy] if change.strategy else request.entries
        experiment = Experiment(request.config, strategies, overwrite=True)
        devices = change.devices(experiment.devices.mode, experiment.devices.devices)
        self.setup, self.body, real = experiment.setups[0], experiment.base.config, experiment.data.train
        texts = self._texts(change, real.tokens)
        # Real tokens are those of the texts, without padding or prompt that a `Change` adds.
        lengths = texts.lengths if trial.mean_length else real.tokens.lengths
        batches = experiment.batches
        if texts is not real.tokens:
            batches = plan_batches(Split(texts, real.labels), request.config.train, experiment.seeds, devices)
        data = replace(experiment.data, train=Split(texts, real.labels))
        read = Activations(request.config, data, devices).inputs(self.setup, experiment.shared, batches)
        self.cache_seconds, self.full_batches = read.seconds, len(real) // trial.batch_size
        self.epochs, self.compiler = request.config.train.epochs, compiler(devices)
        program = Program(
            self.setup,
            devices,
            experiment.shared,
            Inputs(change.batches(read.batches), lengths=lengths),
            change.loss,
            group_sizes=[trial.seeds],
            compiler=self.compiler,
        )
        if not self.full_batches:
            raise UserError(f"{trial.data}: {len(real)} training texts; at least a batch of {trial.batch_size} needed")
        super().__init__(program, experiment.seeds[: trial.seeds], lengths)

    def _texts(self, change: Change, texts: Ragged) -> Ragged:
        if self.trial.mean_length:
            return resized(texts, self.trial.mean_length, self.body.n_positions)
        return change.texts(texts, self.body)

    def places(self, repeat: int) -> Sequence[tuple[int, int]]:
        """One full batch per repeat on a CPU, several on a GPU, in the order of the epochs."""
        steps, every = steps_per_repeat(jax.default_backend()), self.full_batches * self.epochs
        return [divmod((steps * repeat + k) % every, self.full_batches) for k in range(steps)]

    def warm_up(self, repeats: int) -> Sample:
        """Trains on every shape that will be measured (a shape's first run is slow), and on epoch 1's longest batch.

        Args:
            repeats: number of repeats that will be measured.
        """
        places = [(repeat, place) for repeat in reversed(range(repeats)) for place in self.places(repeat)]
        first = {self.batches.joint_batch(self.seeds, *place)[0]: repeat for repeat, place in places}
        for repeat in dict.fromkeys(first.values()):
            self.measure(repeat)
        longest = max(range(self.full_batches), key=self._tokens)
        return self.measure(longest // len(self.places(0)))

    def _tokens(self, step: int) -> int:
        """Number of real tokens of a step of the first epoch."""
        return sum(int(self.lengths[self.batches.rows(seed, 0, step)].sum()) for seed in self.seeds)

    @property
    def waste(self) -> float:
        """Share of the computed tokens, over all planned batches, that aren't real tokens."""
        planned = self.batches.data.lengths.sum()  # with padding or prompt that a `Change` adds
        return 1 - (1 - self.batches.waste) * float(self.lengths.sum() / planned)

    def flops(self, repeat: int) -> float:
        """Number of floating-point operations that a repeat's step needs."""
        return training_flops(self.setup, Amount.of(self.lengths[self.rows(repeat)]), self.batches.data.depth)


def preparation(config: Config) -> dict[str, float]:
    """Seconds to read the texts, to tokenize them (where they aren't cached), and to plan the batches of all runs."""
    tokenizer, devices = load_tokenizer(config.model.tokenizer or ""), Devices.of(config.parallel)
    times = [time.perf_counter()]
    corpus = load_corpus(config.data)
    times.append(time.perf_counter())
    data = encode_corpus(corpus, tokenizer, config.data.max_length)
    times.append(time.perf_counter())
    plan_batches(data.train, config.train, range(config.train.runs), devices)
    times.append(time.perf_counter())
    return dict(zip(("reading", "tokenizing", "planning"), np.diff(times).tolist(), strict=True))


def build_trial(trial: Trial, folder: str, repeats: int) -> Built:
    """Builds and warms up a trial; its `memory_bytes` are the peak of a step of the largest shape."""
    prepared = preparation(arguments.parse(trial_flags(trial, folder)).config) if trial.rows else {}
    steps = TrialSteps(trial, folder)
    reset_peak()
    warm = steps.warm_up(repeats)
    device = steps.program.devices.devices[0]
    facts = {
        "memory_bytes": peak_bytes([device]),
        "compile_seconds": steps.program.compile_seconds,
        "cache_seconds": steps.cache_seconds,
        "waste": steps.waste,
        "shapes": len(steps.batches.shapes),
        "steps": len(steps.places(0)),
        "attention": steps.setup.model.compute.attention,
        "flops": [steps.flops(repeat) for repeat in range(repeats)],
        "peak_flops_per_second": product_rate(trial.dtype),
        "preparation": prepared,
        "mean_tokens": float(steps.lengths.mean()),
        "on": {"backend": jax.default_backend(), "device": device.device_kind},
    }
    return Built({trial.label: lambda repeat: warm if repeat == WARM_UP else steps.measure(repeat)}, facts)


def build_suite(settings: Settings, suite: Suite, folder: str) -> Built:
    """The library's contender in a suite; for `partial`, also its `full` in the same precision."""
    strategies = {"ours": suite.strategy}
    if suite.strategy == "partial":
        strategies["ours, full"] = "full"
    ours = {name: SuiteSteps(settings, strategy, suite.precision, folder) for name, strategy in strategies.items()}
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
        "mean_tokens": float(main.lengths.mean()),
        "rows": {
            repeat: [rows.tolist() for rows in main.rows_of_batches(repeat)]
            for repeat in range(WARM_UP, settings.repeats)
        },
        "ours": {name: one.facts for name, one in ours.items()},
    }
    return Built({name: one.measure for name, one in ours.items()}, facts)
