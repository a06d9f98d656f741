"""Ragged texts -> fixed-shape batches: pure functions of (seed, epoch, step), every shape planned before training.

A batch is laid out on one flat token axis per device and micro-batch: texts stand one behind the other, without padding
but for the axis's end. Attention sees at most `lookback` earlier blocks of `BLOCK` tokens, as far as a text reaches.
"""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np

from flax_agnews.data.tokens import Ragged

BLOCK = 64
"""Tokens in a block of local attention (measured on a 2-core CPU: 64 beats 32, 128 and 256 on AG News lengths)."""

PADDING = -1
"""`text` of a token that belongs to no text."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["ids", "text", "position", "last", "number", "label", "weight"],
    meta_fields=["lookback"],
)
@dataclass(frozen=True)
class Batch:
    """Texts on a flat token axis. Leading axes, where present: [devices, micro_batches].

    Attributes:
        ids: [tokens] int32, token ids.
        text: [tokens] int32, the slot that the token's text has on this device; `PADDING` where there is none.
        position: [tokens] int32, place of the token in its text, from 0.
        last: [slots] int32, index on the token axis of each text's last token: the one that is pooled.
        number: [slots] int32, the text's number in the whole batch: what dropout is drawn by, on any device.
        label: [slots] int32.
        weight: [slots] float32, 1 for a text, 0 for an empty slot.
        lookback: how many earlier blocks a block's tokens may attend to (static).
    """

    ids: Any
    text: Any
    position: Any
    last: Any
    number: Any
    label: Any
    weight: Any
    lookback: int


class Shape(NamedTuple):
    """What is compiled: tokens a device and micro-batch, text slots, micro-batches, blocks of lookback."""

    tokens: int
    slots: int
    micro_batches: int
    lookback: int


@lru_cache(maxsize=2)  # every step of an epoch asks for it
def permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order of the texts in an epoch: [size], uniform, a pure function of its arguments; read-only."""
    order = np.random.Generator(np.random.Philox(key=[seed, 0xBA7C4], counter=[0, 0, 0, epoch])).permutation(size)
    order.setflags(write=False)
    return order


def epoch_batches(seed: int, epoch: int, size: int, batch_size: int) -> list[np.ndarray]:
    """Row numbers of every batch of an epoch; the last one may be short."""
    order = permutation(seed, epoch, size)
    return [order[start : start + batch_size] for start in range(0, size, batch_size)]


def deal(lengths: np.ndarray, shards: int) -> list[list[int]]:
    """Texts -> shards of nearly equal token counts: the longest first, each to the emptiest (Graham's LPT).

    Args:
        lengths: [texts] tokens a text.
        shards: how many.

    Returns:
        For each shard the indices into `lengths`, ascending.
    """
    if shards == 1:
        return [list(range(len(lengths)))]
    dealt: list[list[int]] = [[] for _ in range(shards)]
    heap = [(0, 0, shard) for shard in range(shards)]
    for index in np.argsort(-lengths, kind="stable"):
        load, count, shard = heapq.heappop(heap)
        dealt[shard].append(int(index))
        heapq.heappush(heap, (load + int(lengths[index]), count + 1, shard))
    return [sorted(shard) for shard in dealt]


class Need(NamedTuple):
    """What one batch asks of a shape: blocks of tokens, slots, micro-batches, blocks of lookback."""

    blocks: int
    slots: int
    micro_batches: int
    lookback: int


def count_micro_batches(batches: Sequence[np.ndarray], devices: int, micro_batch_tokens: int) -> int:
    """Micro-batches, of about equal size, so that each has `micro_batch_tokens` tokens a device in the largest batch.

    One number for all batches: dealt to more shards than it was measured for, a batch may need more slots.
    """
    most = max(int(lengths.sum()) for lengths in batches)
    return max(1, -(-most // (devices * micro_batch_tokens)))


def measure(lengths: np.ndarray, devices: int, micro_batches: int) -> Need:
    """What a batch of texts of these lengths needs, dealt to devices and micro-batches."""
    dealt = deal(lengths, devices * micro_batches)
    most = max(int(lengths[shard].sum()) for shard in dealt)
    lookback = -(-(int(lengths.max()) - 1) // BLOCK)
    return Need(max(1, -(-most // BLOCK)), max(map(len, dealt)), micro_batches, lookback)


def plan_shapes(needs: Sequence[Need], most: int) -> list[Shape]:
    """The few shapes, at most `most`, that hold every batch with the least waste.

    Batches with a lookback above the usual one are a class of their own, where there are shapes for both; each class
    gets its share of the shapes, chosen by dynamic programming over its token counts.

    Args:
        needs: of every batch, all with the same number of micro-batches.
        most: shapes.
    """
    usual = int(np.quantile([need.lookback for need in needs], 0.5))
    classes: dict[bool, list[Need]] = {}
    for need in needs:
        classes.setdefault(most > 1 and need.lookback > usual, []).append(need)
    slots, micro = max(need.slots for need in needs), needs[0].micro_batches
    shapes = []
    for _, members in sorted(classes.items()):
        lookback = max(need.lookback for need in members)
        for blocks in _cut_points(np.array([need.blocks for need in members]), most // len(classes)):
            shapes.append(Shape(blocks * BLOCK, slots, micro, lookback))
    return shapes


def _cut_points(blocks: np.ndarray, most: int) -> list[int]:
    """At most `most` sizes so that rounding each of `blocks` up to the next size wastes least in all."""
    sizes, counts = np.unique(blocks, return_counts=True)
    before = np.concatenate([[0], np.cumsum(counts)])
    cost = np.full((most + 1, len(sizes) + 1), np.inf)
    cost[:, 0] = 0
    choice = np.zeros((most + 1, len(sizes) + 1), int)
    for used in range(1, most + 1):
        for end in range(1, len(sizes) + 1):
            totals = cost[used - 1, :end] + sizes[end - 1] * (before[end] - before[:end])
            choice[used, end] = int(np.argmin(totals))
            cost[used, end] = totals[choice[used, end]]
    cuts, end, used = [], len(sizes), most
    while end > 0:
        cuts.append(int(sizes[end - 1]))
        end, used = choice[used, end], used - 1
    return cuts[::-1]


def choose(need: Need, shapes: Sequence[Shape]) -> Shape:
    """The cheapest planned shape that holds a batch."""
    fits = [
        s
        for s in shapes
        if s.tokens >= need.blocks * BLOCK
        and s.slots >= need.slots
        and s.micro_batches == need.micro_batches
        and s.lookback >= need.lookback
    ]
    if not fits:
        raise ValueError(f"no planned shape of {list(shapes)} holds {need}")
    return min(fits, key=lambda s: (s.tokens, s.lookback))


def assemble(data: Ragged, labels: np.ndarray, rows: np.ndarray, shape: Shape, devices: int) -> Batch:
    """Rows of the data -> a NumPy batch of `shape`, with leading axes [devices, micro_batches]."""
    lengths = data.lengths[rows]
    shards = deal(lengths, devices * shape.micro_batches)
    parts = [_flat(data, labels, rows, np.array(shard, int), shape) for shard in shards]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *parts)
    return jax.tree.map(lambda x: x.reshape(devices, shape.micro_batches, *x.shape[1:]), stacked)


def _flat(data: Ragged, labels: np.ndarray, rows: np.ndarray, members: np.ndarray, shape: Shape) -> Batch:
    """One device's micro-batch: the texts `members` (numbers in the batch) one behind the other."""
    slots, tokens = shape.slots, shape.tokens
    lengths = data.lengths[rows[members]]
    total = int(lengths.sum())
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    slot = np.repeat(np.arange(len(members)), lengths)
    position = np.arange(total) - starts[slot]
    batch = Batch(
        ids=np.zeros(tokens, np.int32),
        text=np.full(tokens, PADDING, np.int32),
        position=np.zeros(tokens, np.int32),
        last=np.zeros(slots, np.int32),
        number=np.zeros(slots, np.int32),
        label=np.zeros(slots, np.int32),
        weight=np.zeros(slots, np.float32),
        lookback=shape.lookback,
    )
    batch.ids[:total] = data.ids[data.offsets[rows[members]][slot] + position]
    batch.text[:total] = slot
    batch.position[:total] = position
    used = len(members)
    batch.last[:used] = starts + lengths - 1
    batch.number[:used] = members
    batch.label[:used] = labels[rows[members]]
    batch.weight[:used] = 1
    return batch


class TrainBatches:
    """All batches of a run: `batch(seed, epoch, step)`, from shapes planned over every seed and epoch.

    Args:
        data, labels: the texts that train.
        batch_size: texts an update.
        seeds, epochs: what will be asked for.
        devices: shards of a batch.
        micro_batch_tokens: most tokens of a micro-batch on one device.
        most_shapes: most shapes to plan.
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
        most_shapes: int = 6,
    ) -> None:
        self.data, self.labels, self.batch_size, self.devices = data, labels, batch_size, devices
        size = len(labels)
        orders = (rows for s in seeds for e in range(epochs) for rows in epoch_batches(s, e, size, batch_size))
        every = [data.lengths[rows] for rows in orders]
        micro = count_micro_batches(every, devices, micro_batch_tokens)
        self._measure = partial(measure, devices=devices, micro_batches=micro)
        needs = [self._measure(lengths) for lengths in every]
        self.shapes = plan_shapes(needs, most_shapes)
        self.steps_per_epoch = -(-size // batch_size)
        computed = sum(s.tokens * s.micro_batches for s in (choose(need, self.shapes) for need in needs))
        self.waste = 1 - len(seeds) * epochs * int(data.lengths.sum()) / (computed * devices)
        """Share of the computed tokens that belong to no text, over all planned batches."""

    def rows(self, seed: int, epoch: int, step: int) -> np.ndarray:
        """Row numbers of the texts that share an update."""
        order = permutation(seed, epoch, len(self.labels))
        return order[step * self.batch_size : (step + 1) * self.batch_size]

    def batch(self, seed: int, epoch: int, step: int) -> tuple[Shape, Batch]:
        """The batch of an update, and its planned shape. Step counts from 0 in each epoch."""
        rows = self.rows(seed, epoch, step)
        shape = choose(self._measure(self.data.lengths[rows]), self.shapes)
        return shape, assemble(self.data, self.labels, rows, shape, self.devices)


class EvalBatches:
    """Every text once, in batches of like lengths, so that short texts look back less far.

    Args:
        data, labels: the texts.
        batch_size: texts a batch, on average.
        devices, micro_batch_tokens: as in `TrainBatches`.
    """

    def __init__(
        self, data: Ragged, labels: np.ndarray, batch_size: int, devices: int, micro_batch_tokens: int = 16384
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
        self.shapes = plan_shapes(self._needs, most=2)

    def __iter__(self) -> Iterator[tuple[np.ndarray, Shape, Batch]]:
        """Rows of a batch, its shape, the batch."""
        for rows, need in zip(self._groups, self._needs, strict=True):
            shape = choose(need, self.shapes)
            yield rows, shape, assemble(self.data, self.labels, rows, shape, self.devices)
