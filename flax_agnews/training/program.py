"""A strategy compiled for a data set: every shape ahead of time, reused by every seed."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from flax_agnews.config import TrainConfig
from flax_agnews.data.batches import EvalBatches, Shape, TrainBatches, assemble
from flax_agnews.data.encoded import Split
from flax_agnews.models.parameters import Parameters
from flax_agnews.training.parallel import Devices
from flax_agnews.training.state import Setup, TrainState, create_state
from flax_agnews.training.step import Loss, classification_loss, make_eval_step, make_train_step


def plan_batches(data: Split, train: TrainConfig, seeds: Sequence[int], devices: Devices) -> TrainBatches:
    """The training batches of every seed and epoch; their shapes are known from here on."""
    return TrainBatches(
        data.tokens,
        data.labels,
        batch_size=train.batch_size,
        seeds=seeds,
        epochs=train.epochs,
        devices=len(devices),
        micro_batch_tokens=train.micro_batch_tokens,
        most_shapes=train.shapes,
    )


class Program:
    """Compiled steps of a strategy.

    Args:
        setup: the strategy on the model.
        devices: that share every batch.
        shared: the body's weights on them (`devices.shared`).
        batches: that train.
        evaluated: batches of each split that is evaluated, by name.
        loss: what training minimises.
    """

    def __init__(
        self,
        setup: Setup,
        devices: Devices,
        shared: Parameters,
        batches: TrainBatches,
        evaluated: Mapping[str, EvalBatches],
        loss: Loss = classification_loss,
    ) -> None:
        self.setup, self.devices, self.shared, self.batches = setup, devices, shared, batches
        self.evaluated = evaluated
        started = time.perf_counter()
        state, frozen = self.start(seed=0)
        step = make_train_step(setup, loss)
        compile_ = devices.compile
        examples = {shape: devices.batch(_example(shape, batches, len(devices))) for shape in batches.shapes}
        self._train = {s: compile_(step, state, frozen, batch, donate=True) for s, batch in examples.items()}
        self._evaluate: dict[Shape, Any] = {}
        for split in evaluated.values():
            for shape in split.shapes:
                batch = devices.batch(_example(shape, split, len(devices)))
                evaluate = partial(compile_, make_eval_step(setup), donate=False)
                if shape not in self._evaluate:
                    self._evaluate[shape] = evaluate(state.params, frozen, batch)
        self.compile_seconds = time.perf_counter() - started

    def start(self, seed: int) -> tuple[TrainState, Parameters]:
        """(state, frozen) of a run, on the devices."""
        state, frozen = create_state(self.setup, self.shared, seed)
        return self.devices.state(state), self.devices.shared(frozen)

    def train_step(
        self, state: TrainState, frozen: Parameters, seed: int, epoch: int, step: int
    ) -> tuple[TrainState, dict[str, Any]]:
        """One update (the state is donated); metrics stay on the device until somebody reads them."""
        shape, batch = self.batches.batch(seed, epoch, step)
        state, metrics = self._train[shape](state, frozen, self.devices.batch(batch))
        return state, self.devices.first(metrics)

    def evaluate(self, params: Parameters, frozen: Parameters, split: str) -> np.ndarray:
        """Logits of every text of a split, in its order: [texts, classes] float32."""
        batches = self.evaluated[split]
        out = np.zeros((len(batches.labels), self.setup.classes), np.float32)
        for rows, shape, batch in batches:
            logits = self.devices.first(self._evaluate[shape](params, frozen, self.devices.batch(batch)))
            used = batch.weight > 0
            out[rows[batch.number[used]]] = np.asarray(logits)[used]
        return out


def _example(shape: Shape, batches: TrainBatches | EvalBatches, devices: int) -> Any:
    """A batch of zeros of a shape."""
    empty = assemble(batches.data, batches.labels, np.zeros(0, int), shape, devices)
    return jax.tree.map(np.zeros_like, empty)
