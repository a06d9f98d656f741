"""Packs texts of different lengths into batches of a few fixed shapes, which are planned before training.

A batch is a pure function of (seed, epoch, step). It has one flat token axis per device and micro-batch: texts follow
each other, the longest first, with padding only at the end of the axis. Attention is computed for blocks of `BLOCK`
tokens, each over as many earlier blocks as its texts reach back: few for the short texts at the end.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np

from flax_agnews.data.shapes import (
    MOST,
    Choice,
    Price,
    Shape,
    choose,
    chosen_shapes,
    count_micro_batches,
    deal,
    extended,
    joint,
    measure,
    plan_shapes,
    planned_epochs,
)
from flax_agnews.data.tokens import Ragged

PADDING = -1
"""Value of `Batch.text` for padding tokens."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["ids", "text", "position", "last", "number", "label", "weight"],
    meta_fields=["reach", "depth", "stride"],
)
@dataclass(frozen=True)
class Batch:
    """A batch of texts on a flat token axis. Leading axes, where present: [devices, micro_batches].

    Attributes:
        ids: [tokens] int32, token ids; or [tokens, embd], the input of layer `depth`.
        text: [tokens] int32, the slot of the token's text on this device; `PADDING` for padding tokens.
        position: [tokens] int32, position of the token in its text, from 0.
        last: [slots] int32, index on the token axis of each text's last token, which is pooled.
        number: [slots] int32, the text's number in the whole batch, which seeds its dropout on any device.
        label: [slots] int32, class number of the text.
        weight: [slots] float32, weight of the text in the training loss, 1 by default; 0 for an empty slot.
        reach: number of leading blocks for each level of lookback, as in `Shape` (static).
        depth: number of layers that `ids` have passed through (static); 0 for token ids.
        stride: distance in tokens between the starts of texts (static), each in a row of its own; 0 for packed texts.
    """

    ids: Any
    text: Any
    position: Any
    last: Any
    number: Any
    label: Any
    weight: Any
    reach: tuple[int, ...]
    depth: int = 0
    stride: int = 0


@lru_cache(maxsize=16)  # needed in every step, for each of the seeds that train together
def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """Random order of the texts in an epoch, a pure function of its arguments: [size] int, read-only."""
    order = np.random.Generator(np.random.Philox(key=[seed, 0xBA7C4], counter=[0, 0, 0, epoch])).permutation(size)
    order.setflags(write=False)
    return order


def epoch_batches(seed: int, epoch: int, size: int, batch_size: int) -> list[np.ndarray]:
    """Row numbers of each batch of an epoch; the last batch may be smaller."""
    order = permutation(seed, epoch, size)
    return [order[start : start + batch_size] for start in range(0, size, batch_size)]


def assemble(
    data: Ragged,
    labels: np.ndarray,
    rows: np.ndarray,
    shape: Shape,
    devices: int,
    weights: np.ndarray | None = None,
) -> Batch:
    """Makes a NumPy batch of `shape` from rows of the data, with leading axes [devices, micro_batches].

    Args:
        data, labels: all texts of the split, and their class numbers.
        rows: row numbers of the batch's texts.
        shape: a planned shape that is large enough for them.
        devices: number of devices.
        weights: [all texts] weight of each in the loss; 1 by default.
    """
    shards = deal(data.lengths[rows], devices * shape.micro_batches)
    parts = [_flat(data, labels, weights, rows[shard], shard, shape) for shard in shards]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves) if len(leaves) > 1 else leaves[0][None], *parts)
    return jax.tree.map(lambda x: x.reshape(devices, shape.micro_batches, *x.shape[1:]), stacked)


def _flat(
    data: Ragged, labels: np.ndarray, weights: np.ndarray | None, rows: np.ndarray, numbers: np.ndarray, shape: Shape
) -> Batch:
    """Makes one device's micro-batch of the texts in these rows, which have these `numbers` in the batch."""
    slots, tokens = shape.slots, shape.tokens
    lengths = data.lengths[rows]
    total, used = int(lengths.sum()), len(rows)
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    slot = np.repeat(np.arange(used), lengths)
    position = np.arange(total) - starts[slot]
    batch = Batch(
        ids=np.zeros((tokens, *data.ids.shape[1:]), data.ids.dtype),
        text=np.full(tokens, PADDING, np.int32),
        position=np.zeros(tokens, np.int32),
        last=np.zeros(slots, np.int32),
        number=np.zeros(slots, np.int32),
        label=np.zeros(slots, np.int32),
        weight=np.zeros(slots, np.float32),
        reach=shape.reach,
        depth=data.depth,
    )
    if data.depth:  # vectors, of which slices are copied three times as fast as single rows
        np.concatenate([data.ids[:0], *(data[row] for row in rows)], out=batch.ids[:total])
    else:
        batch.ids[:total] = data.ids[data.offsets[rows][slot] + position]
    batch.text[:total] = slot
    batch.position[:total] = position
    batch.last[:used] = starts + lengths - 1
    batch.number[:used] = numbers
    batch.label[:used] = labels[rows]
    batch.weight[:used] = 1 if weights is None else weights[rows]
    return batch


class TrainBatches:
    """Training batches, `batch(seed, epoch, step)`, in a few shapes planned for all seeds and epochs.

    Planning more epochs doesn't change the shapes of the first epochs, since a shape influences the rounding of an
    update: if a batch of a later group of epochs (`planned_epochs`) fits in no shape, a shape is added.

    Args:
        data, labels: the training texts, and their class numbers.
        batch_size: texts per update.
        seeds, epochs: the seeds, and the number of epochs, to plan for.
        devices: number of devices that share a batch.
        micro_batch_tokens: largest number of tokens of a micro-batch on one device.
        most_shapes: largest number of shapes for the first epochs; later epochs may add one or two.
        price: what shapes cost, to choose their number; by default there are `most_shapes`.
        together: number of seeds that train at once: their batches have the same shape, and share the token limit.
        weights: [texts] weight of each in the loss; 1 by default.

    Attributes:
        groups: the seeds that train together.
        choice: why there are as many shapes; None where their number was given.
    """

    def __init__(
        self,
        data: Ragged,
        labels: np.ndarray,
        *,
        batch_size: int,
        seeds: Sequence[int],
        epochs: int,
        devices: int = 1,
        micro_batch_tokens: int = 16384,
        most_shapes: int = MOST,
        price: Price | None = None,
        together: int = 1,
        weights: np.ndarray | None = None,
    ) -> None:
        self.data, self.labels, self.weights = data, labels, weights
        self.batch_size, self.devices = batch_size, devices
        size = len(labels)
        self.groups = [list(seeds[start : start + together]) for start in range(0, len(seeds), together)]
        self.steps_per_epoch = -(-size // batch_size)
        first, *further = planned_epochs(epochs, self.steps_per_epoch)
        limit = max(1, micro_batch_tokens // max(map(len, self.groups)))
        known = [lengths for epoch in first for update in self._updates(epoch) for lengths in update]
        micro = count_micro_batches(known, devices, limit)
        self._measure = partial(measure, devices=devices, micro_batches=micro)
        needs = {
            epoch: [joint([self._measure(lengths) for lengths in update]) for update in self._updates(epoch)]
            for span in (first, *further)
            for epoch in span
        }
        planned = [need for epoch in first for need in needs[epoch]]
        self.choice: Choice | None = None
        if price is None:
            self.shapes = plan_shapes(planned, most_shapes)
        else:
            times = price.passes / len(first) * micro * len(seeds) / len(self.groups)
            programs = len({len(group) for group in self.groups})
            self.shapes, self.choice = chosen_shapes(planned, programs * price.compiling, times * price.block)
        for span in further:
            self.shapes = extended(self.shapes, [need for epoch in span for need in needs[epoch]])
        computed = sum(
            choose(need, self.shapes).tokens * micro * len(update)
            for epoch in range(epochs)
            for need, update in zip(needs[epoch], self._updates(epoch), strict=True)
        )
        self.waste = 1 - len(seeds) * epochs * int(data.lengths.sum()) / (computed * devices)
        """Share of padding among the computed tokens, over all planned batches."""

    def _updates(self, epoch: int) -> list[list[np.ndarray]]:
        """For each update of each group of seeds in an epoch: [texts] tokens of each text, for each seed."""
        size = len(self.labels)
        return [
            [self.data.lengths[rows] for rows in update]
            for group in self.groups
            for update in zip(*(epoch_batches(seed, epoch, size, self.batch_size) for seed in group), strict=True)
        ]

    def cut(self, steps: int) -> "TrainBatches":
        """A copy with only the first `steps` batches of each epoch."""
        other = copy.copy(self)
        other.steps_per_epoch = steps
        return other

    def rows(self, seed: int, epoch: int, step: int) -> np.ndarray:
        """Row numbers of the texts in an update; `step` counts from 0 in each epoch."""
        order = permutation(seed, epoch, len(self.labels))
        return order[step * self.batch_size : (step + 1) * self.batch_size]

    def batch(self, seed: int, epoch: int, step: int) -> tuple[Shape, Batch]:
        """The batch of an update, and its shape; `step` counts from 0 in each epoch."""
        return self.joint_batch([seed], epoch, step)

    def joint_shape(self, seeds: Sequence[int], epoch: int, step: int) -> Shape:
        """The shape of several seeds' batches, without making them."""
        lengths = [self.data.lengths[self.rows(seed, epoch, step)] for seed in seeds]
        return choose(joint([self._measure(own) for own in lengths]), self.shapes)

    def joint_batch(self, seeds: Sequence[int], epoch: int, step: int) -> tuple[Shape, Batch]:
        """The batches of several seeds in one shape: leading axes [devices, seeds, micro_batches].

        Each is the batch that the seed would have if it trained alone. With one seed there is no axis [seeds].
        """
        rows, shape = [self.rows(seed, epoch, step) for seed in seeds], self.joint_shape(seeds, epoch, step)
        each = [assemble(self.data, self.labels, own, shape, self.devices, self.weights) for own in rows]
        return shape, each[0] if len(each) == 1 else jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *each)


class EvalBatches:
    """Evaluation batches: each text once, sorted by length, so that attention of short texts is cheap.

    Args:
        data, labels: the texts, and their class numbers.
        batch_size: texts per batch, on average.
        devices, micro_batch_tokens, price: as in `TrainBatches`; without `price` there are at most two shapes.
    """

    def __init__(
        self,
        data: Ragged,
        labels: np.ndarray,
        batch_size: int,
        devices: int,
        micro_batch_tokens: int = 16384,
        price: Price | None = None,
    ) -> None:
        self.data, self.labels, self.devices = data, labels, devices
        by_length = np.argsort(data.lengths, kind="stable")
        ends = np.cumsum(data.lengths[by_length])
        groups = -(-len(labels) // batch_size)
        self._groups = np.split(by_length, np.searchsorted(ends, ends[-1] * np.arange(1, groups) / groups))
        self._groups = [rows for rows in self._groups if len(rows)]
        every = [data.lengths[rows] for rows in self._groups]
        micro = count_micro_batches(every, devices, micro_batch_tokens)
        self._needs = [measure(lengths, devices, micro) for lengths in every]
        if price is None:
            self.shapes = plan_shapes(self._needs, most=2)
        else:
            self.shapes, _ = chosen_shapes(self._needs, price.compiling, price.passes * micro * price.block)

    @property
    def chosen(self) -> list[Shape]:
        """The shape of each batch, in order."""
        return [choose(need, self.shapes) for need in self._needs]

    def only(self, numbers: Sequence[int]) -> "EvalBatches":
        """A copy with some of the batches, by their numbers from 0."""
        other = copy.copy(self)
        other._groups, other._needs = [self._groups[n] for n in numbers], [self._needs[n] for n in numbers]
        return other

    def __iter__(self) -> Iterator[tuple[np.ndarray, Shape, Batch]]:
        """Iterates over (row numbers, shape, batch)."""
        for rows, shape in zip(self._groups, self.chosen, strict=True):
            yield rows, shape, assemble(self.data, self.labels, rows, shape, self.devices)
