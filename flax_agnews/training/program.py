"""The compiled steps of a strategy on a data set: every batch shape is compiled ahead of time, once for all seeds."""

import copy
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from flax_agnews.config import TrainConfig
from flax_agnews.data.batches import EvalBatches, Shape, TrainBatches, assemble
from flax_agnews.metrics.scores import balanced_class_weights
from flax_agnews.models.parameters import Parameters
from flax_agnews.training.adapted_model import in_compute_type, unshared
from flax_agnews.training.compiler import Compiled, Compiler
from flax_agnews.training.evaluator import Evaluator
from flax_agnews.training.feed import B, Feed, one_late
from flax_agnews.training.parallel import Devices
from flax_agnews.training.state import Setup, TrainState, create_state, stack
from flax_agnews.training.step import (
    Loss,
    SmoothedLoss,
    classification_loss,
    inputs_of_gradients,
    make_gradient_step,
    make_update_step,
    skips_by_branch,
    vmapped,
)


def training_loss(labels: Int[np.ndarray, "texts"], classes: int, train: TrainConfig) -> Loss:
    """Makes the loss that training minimises; the weights of texts are in the batches.

    Args:
        labels: labels of the training texts.
        classes: number of classes.
        train: settings of training, of which `label_smoothing` and `class_weights` are used.
    """
    if not train.label_smoothing:
        return classification_loss
    balanced = train.class_weights == "balanced"
    weights = tuple(balanced_class_weights(labels, classes).tolist()) if balanced else None
    return SmoothedLoss(train.label_smoothing, weights)


@dataclass(frozen=True)
class Inputs:
    """The batches that a compiled strategy reads: of token ids, or of its frozen layers' cached output.

    Attributes:
        batches: training batches.
        evaluated: evaluation batches by name of the split.
        by_stage: training batches of each stage, which may be of the output of more layers; `batches` by default.
        lengths: number of tokens of each training text; those of `batches` by default.
        seconds: time that caching took.
    """

    batches: TrainBatches
    evaluated: Mapping[str, EvalBatches] = field(default_factory=dict)
    by_stage: Sequence[TrainBatches] = ()
    lengths: np.ndarray | None = None
    seconds: float = 0.0


class Program:
    """Compiled steps of a strategy, for single runs and for groups of runs with different seeds that train together.

    In a group, state, batch and metrics have a leading axis [seeds], and so do frozen weights that depend on the seed;
    in a single run there is no such axis. The gradients are compiled for every planned shape, the update once.

    Args:
        setup: the adapted model and how it trains.
        devices: the devices that share every batch.
        shared: the body's weights on them (from `devices.shared`).
        inputs: the batches that the program reads.
        loss: the loss to minimise; equal for equal losses, if programs are to be shared.
        group_sizes: numbers of runs that will train together; each is compiled.
        compiler: compiles the steps, for these devices; what it has compiled for other strategies is used again.
        wait: whether to wait until all is compiled; otherwise the steps are only traced, and `wait` must be called.

    Attributes:
        setup, devices, shared: as given.
        batches, evaluated, by_stage, lengths: from `inputs`.
        cache_seconds: time that caching took, copies of cached output to a device included (`feed.Feed`).
        compile_seconds: time that tracing and waiting for the compiler took.
    """

    def __init__(
        self,
        setup: Setup,
        devices: Devices,
        shared: Parameters,
        inputs: Inputs,
        loss: Loss = classification_loss,
        group_sizes: Collection[int] = (1,),
        compiler: Compiler | None = None,
        wait: bool = True,
    ) -> None:
        self.setup, self.devices, self.shared, self.batches = setup, devices, shared, inputs.batches
        self.evaluated, self.cache_seconds = inputs.evaluated, inputs.seconds
        self.by_stage = inputs.by_stage or [inputs.batches] * len(setup.stages)
        self.lengths = inputs.batches.data.lengths if inputs.lengths is None else inputs.lengths
        self._ready = self._frozen_in_compute_type()
        started, compiler = time.perf_counter(), compiler or Compiler(devices)
        self._feeds: dict[str, tuple[Any, Feed]] = {}
        self._gradients: dict[tuple[int, int, Shape], Compiled] = {}
        self._update: dict[tuple[int, int], Compiled] = {}
        for size in group_sizes:
            self._compile_training(compiler, loss, size)
        if self.evaluated:
            self._evaluator = Evaluator(setup.model, compiler)
            for split in self.evaluated.values():
                for shape in split.shapes:
                    self._evaluator.compile(shape, _example(shape, split, len(devices)))
        self.compile_seconds = time.perf_counter() - started
        if wait:
            self.wait()

    @property
    def ready(self) -> bool:
        """Whether the training steps are compiled."""
        return all(step.ready for step in (*self._gradients.values(), *self._update.values()))

    def wait(self) -> None:
        """Waits until all is compiled; raises what the compiler raised."""
        started = time.perf_counter()
        for step in [*self._gradients.values(), *self._update.values()]:
            step.wait()
        if self.evaluated:
            self._evaluator.wait()
        self.compile_seconds += time.perf_counter() - started

    def at(self, setup: Setup, batches: TrainBatches) -> "Program":
        """A copy with another setup (initial optimizer state) and batches of the same shapes; steps stay compiled."""
        other = copy.copy(self)
        other.setup, other.batches = setup, batches
        return other

    def on(self, devices: Devices, shared: Parameters) -> "Program":
        """The compiled program on another single device of the same kind; nothing is traced.

        Args:
            devices: the device.
            shared: the body's weights on it.
        """
        other = copy.copy(self)
        other.devices, other.shared, other._feeds = devices, shared, {}
        other._ready = other._frozen_in_compute_type()
        other._gradients = {key: step.on(devices) for key, step in self._gradients.items()}
        other._update = {key: step.on(devices) for key, step in self._update.items()}
        if self.evaluated:
            other._evaluator = self._evaluator.on(devices)
        other.wait()
        return other

    def _frozen_in_compute_type(self) -> Parameters:
        frozen = {path: value for path, value in self.shared.items() if path not in self.setup.trainable}
        return in_compute_type(self.setup.model, frozen)

    def start(self, seed: int) -> tuple[TrainState, Parameters]:
        """Initial (state, frozen) of a single run, on the devices; see `create_state`."""
        return self.start_together([seed])

    def start_together(self, seeds: Sequence[int]) -> tuple[TrainState, Parameters]:
        """Initial (state, frozen) of a group of runs, on the devices."""
        self._feed("train", self.by_stage[0])  # now, so that no update's time has it
        state, frozen = self._create(seeds)
        return self.devices.state(state), self.devices.shared(frozen)

    def _create(self, seeds: Sequence[int]) -> tuple[TrainState, Parameters]:
        states, frozen = zip(*(create_state(self.setup, self.shared, seed) for seed in seeds), strict=True)
        own = {path: stack([one[path] for one in frozen]) for path in self._own}
        ready = {path: value for path, value in self._ready.items() if path in frozen[0] and path not in own}
        return stack(states), {**frozen[0], **own, **ready}

    def alone(self, state: TrainState, frozen: Parameters, number: int, size: int) -> tuple[TrainState, Parameters]:
        """Extracts one run's (state, frozen) from those of a group, as one device has them.

        Args:
            state, frozen: of the whole group.
            number: index of the run in the group.
            size: number of runs in the group.
        """
        state = self.devices.first(state)
        if size == 1:
            return state, frozen
        own = {path: frozen[path][number] for path in self._own}
        return jax.tree.map(lambda x: x[number], state), {**frozen, **own}

    @cached_property
    def _own(self) -> frozenset[str]:
        """Paths of the frozen weights that depend on the seed."""
        return unshared(self.setup.model, self.shared) - self.setup.trainable

    def _compile_training(self, compiler: Compiler, loss: Loss, size: int) -> None:
        """Begins to compile the gradients of groups of `size` runs, for every stage and planned shape, and updates."""
        devices, own = self.devices, self._own  # before tracing, which replaces the arrays that it compares
        state, frozen = jax.eval_shape(partial(self._create, range(size)))
        state, frozen = devices.like_state(state), devices.like_shared(frozen)
        for number, (stage, batches) in enumerate(zip(self.setup.stages, self.by_stage, strict=True)):
            update = make_update_step(stage, size > 1, skips_by_branch(devices.platform))
            steps = make_gradient_step(stage, loss), update
            gradient_step, update_step = steps if size == 1 else (vmapped(step, own) for step in steps)
            same = ("gradients", stage.model.function, stage.learning, stage.rates, loss, own)
            like = None, {path: leaf for path, leaf in state.params.items() if path in stage.learning}
            for shape in batches.shapes:
                batch = devices.like_batch(_example(shape, batches, len(devices), size))
                compiled = compiler(gradient_step, inputs_of_gradients(state), frozen, batch, same=same, like=like)
                self._gradients[number, size, shape] = compiled
            self._update[number, size] = compiler(
                update_step, state, (), compiled.result, donate=True, chained=True, like=(state, None)
            )

    def train_step(
        self, state: TrainState, frozen: Parameters, seed: int, epoch: int, step: int
    ) -> tuple[TrainState, dict[str, Any]]:
        """Makes one update of a single run; metrics stay on the device until they are read.

        `state` is donated and can't be used afterwards; `frozen` is shared by all runs and is not.
        """
        return self.train_together(state, frozen, [seed], epoch, step)

    def train_together(
        self, state: TrainState, frozen: Parameters, seeds: Sequence[int], epoch: int, step: int
    ) -> tuple[TrainState, dict[str, Any]]:
        """Makes one update of every run in a group; otherwise as `train_step`."""
        stage, size = self.setup.stage_of(epoch), len(seeds)
        feed = self._feed("train", self.by_stage[stage])
        shape, batch = feed.batches.joint_batch(seeds, epoch, step)
        results = self._gradients[stage, size, shape](inputs_of_gradients(state), frozen, feed.place(batch))
        state, metrics = self._update[stage, size](state, (), results)
        return state, self.devices.first(metrics)

    def evaluate(self, params: Parameters, frozen: Parameters, split: str) -> Float[np.ndarray, "texts classes"]:
        """Computes the logits of every text of a split, in the split's order, with one run's weights."""
        weights, feed = self._evaluator.weights({**frozen, **params}), self._feed(split, self.evaluated[split])
        out = np.zeros((len(feed.batches.labels), self.setup.model.classes), np.float32)
        begun = (
            (rows, batch, self._evaluator.logits(weights, shape, feed.place(batch)))
            for rows, shape, batch in feed.batches
        )
        for rows, batch, logits in one_late(begun):
            used = batch.weight > 0
            out[rows[batch.number[used]]] = np.asarray(logits)[used]
        return out

    def _feed(self, name: str, batches: B) -> Feed[B]:
        """The feed of a split's batches, made when they are first used: other strategies have left the devices then.

        A stage's training batches take the place of those of the stage before.
        """
        if name not in self._feeds or self._feeds[name][0] is not batches:
            self._feeds.pop(name, None)  # what it had on the devices is free before the next is copied
            started, feed = time.perf_counter(), Feed.of(batches, self.devices)
            self.cache_seconds += time.perf_counter() - started if feed.table is not None else 0.0
            self._feeds[name] = batches, feed
        return self._feeds[name][1]


def _example(shape: Shape, batches: TrainBatches | EvalBatches, devices: int, size: int = 1) -> Any:
    """An empty batch of a shape, for a group of `size` runs."""
    empty = assemble(batches.data, batches.labels, np.zeros(0, int), shape, devices)
    axes = [devices] if size == 1 else [devices, size]
    return jax.tree.map(lambda x: np.zeros((*axes, *x.shape[1:]), x.dtype), empty)
