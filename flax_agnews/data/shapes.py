"""Plans the few batch shapes for which training is compiled, such that padding costs least.

Their number is given, or chosen (`chosen_shapes`) from the seconds that a shape takes to compile and saves in padding.
"""

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BLOCK = 32
"""Tokens in a block of local attention (measured on a 2-core CPU: 32 beats 16, 64 and 128 on AG News lengths)."""

LEVELS = tuple(2**i for i in range(1, 12))
"""Numbers of earlier blocks that a block may attend to: 2, 4, 8 ..., for texts of up to 65,537 tokens. (One block would
save 0.1 % of a step on news texts, and take 25 % longer to compile.)"""

LOOKBACK_COST = 0.03
"""Cost of attending to one more earlier block, relative to all other costs of a block (measured at width 768)."""


MOST = 6
"""Largest number of shapes that are chosen: on AG News a seventh would save less than 1 % of a step."""

EPOCHS = 5
"""Largest number of epochs in the first group that is planned together; it is smaller if they have many updates."""

_UPDATES = 5000  # largest number of updates in that group


class Shape(NamedTuple):
    """The shape of a batch, for which training is compiled.

    Attributes:
        slots: largest number of texts in a micro-batch on one device.
        micro_batches: number of micro-batches that a device computes one after the other.
        reach: for each of `LEVELS`, number of leading blocks that look back farther than the level before it; for the
            first level, number of all blocks.
    """

    slots: int
    micro_batches: int
    reach: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Number of tokens of a micro-batch on one device."""
        return self.reach[0] * BLOCK

    @property
    def cost(self) -> float:
        """Cost of a micro-batch in blocks: its tokens, and the attention to earlier blocks."""
        further = np.diff((0, *LEVELS))
        return self.reach[0] + LOOKBACK_COST * float(np.dot(further, self.reach))

    def holds(self, need: "Shape") -> bool:
        """Whether a batch fits into this shape; `need` is the smallest shape that holds the batch."""
        enough = all(mine >= asked for mine, asked in zip(self.reach, need.reach, strict=True))
        return enough and self.slots >= need.slots and self.micro_batches == need.micro_batches


class Price(NamedTuple):
    """What shapes cost on a device.

    Attributes:
        compiling: seconds to compile a step for one shape.
        block: seconds to compute a block of `BLOCK` tokens.
        passes: number of passes over all texts for which shapes are chosen.
    """

    compiling: float
    block: float
    passes: float


class Choice(NamedTuple):
    """How many shapes were chosen, and what one more would have cost and saved.

    Attributes:
        shapes: number of shapes.
        compiling: seconds to compile one more.
        saving: seconds of computing on padding that one more would save; NaN where there are `MOST`.
    """

    shapes: int
    compiling: float
    saving: float


Need = Shape
"""The smallest shape that holds a given batch."""


def deal(lengths: np.ndarray, shards: int) -> list[np.ndarray]:
    """Distributes texts to shards of nearly equal token counts: longest first, each to the emptiest (Graham's LPT).

    Args:
        lengths: [texts] tokens of each text.
        shards: number of shards.

    Returns:
        For each shard the indices into `lengths`, the longest text first.
    """
    order = np.argsort(-lengths, kind="stable")
    if shards == 1:
        return [order]
    dealt: list[list[int]] = [[] for _ in range(shards)]
    heap = [(0, 0, shard) for shard in range(shards)]
    for index in order:
        load, count, shard = heapq.heappop(heap)
        dealt[shard].append(int(index))
        heapq.heappush(heap, (load + int(lengths[index]), count + 1, shard))
    return [np.array(shard, int) for shard in dealt]


def count_micro_batches(batches: Sequence[np.ndarray], devices: int, micro_batch_tokens: int) -> int:
    """Number of micro-batches per batch, so that in the largest batch each has about `micro_batch_tokens` per device.

    All batches have the same number, since a batch in more shards may need more slots than planned. `batches` has the
    [texts] token counts of each.
    """
    most = max(int(lengths.sum()) for lengths in batches)
    return max(1, -(-most // (devices * micro_batch_tokens)))


def measure(lengths: np.ndarray, devices: int, micro_batches: int) -> Need:
    """The smallest shape that holds a batch with texts of these lengths, on so many devices and micro-batches."""
    dealt = deal(lengths, devices * micro_batches)
    reach = np.max([_reach(lengths[shard]) for shard in dealt], axis=0)
    return Need(max(map(len, dealt)), micro_batches, tuple(reach.tolist()))


def _reach(lengths: np.ndarray) -> np.ndarray:
    """`Shape.reach` for texts of these lengths, packed in this order: [levels]."""
    ends = np.cumsum(lengths)
    last = (ends - 1) // BLOCK
    back = last - (ends - lengths) // BLOCK
    beyond = back > np.array((0, *LEVELS[:-1]))[:, None]  # [levels, texts]
    reach = np.max(np.where(beyond, last + 1, 0), axis=1, initial=0)
    reach[0] = max(1, -(-int(lengths.sum()) // BLOCK))
    return reach


def choose(need: Need, shapes: Sequence[Shape]) -> Shape:
    """The cheapest of the planned shapes that holds a batch."""
    fits = [shape for shape in shapes if shape.holds(need)]
    if not fits:
        raise ValueError(f"no planned shape of {list(shapes)} holds {need}")
    return min(fits, key=lambda shape: shape.cost)


def joint(needs: Sequence[Need]) -> Need:
    """The smallest shape that holds each of several batches, given the smallest shape of each."""
    reach = np.max([need.reach for need in needs], axis=0)
    return Need(max(need.slots for need in needs), needs[0].micro_batches, tuple(reach.tolist()))


def plan_shapes(needs: Sequence[Need], most: int) -> list[Shape]:
    """Plans at most `most` shapes that hold all batches at the least cost.

    Args:
        needs: smallest shape of each batch, all with the same number of micro-batches.
        most: largest number of shapes.
    """
    return _Plans(needs, most).shapes(most)


def chosen_shapes(needs: Sequence[Need], compiling: float, block: float) -> tuple[list[Shape], Choice]:
    """Plans as many shapes, at most `MOST`, as make the time for compiling and computing least.

    Args:
        needs: smallest shape of each batch, all with the same number of micro-batches.
        compiling: seconds to compile one shape, above 0.
        block: seconds in all to compute a block of a micro-batch, each time that the batches are computed.
    """
    plans = _Plans(needs, MOST + 1)
    padded = block * plans.costs
    count = 1 + int(np.argmin(compiling * np.arange(1, MOST + 1) + padded[:MOST]))
    saving = float(padded[count - 1] - padded[count]) if count < MOST else math.nan
    return plans.shapes(count), Choice(count, compiling, saving)


def planned_epochs(epochs: int, steps: int) -> list[range]:
    """Groups of epochs whose shapes are planned together; each doubles the number of planned epochs.

    The groups don't depend on `epochs`, except how many there are: the first has 5 epochs, or fewer if these have more
    than 5000 updates.

    Args:
        epochs: number of epochs.
        steps: updates per epoch.
    """
    spans = [range(-(-min(EPOCHS * steps, _UPDATES) // steps))]
    while spans[-1].stop < epochs:
        spans.append(range(spans[-1].stop, 2 * spans[-1].stop))
    return spans


def extended(shapes: Sequence[Shape], needs: Sequence[Need]) -> list[Shape]:
    """The shapes, and one more if some batch fits into none of them; all other batches keep their shapes."""
    beyond = [need for need in needs if not any(shape.holds(need) for shape in shapes)]
    if not beyond:
        return list(shapes)
    every = [*shapes, *beyond]
    reach = np.max([one.reach for one in every], axis=0)
    return [*shapes, Shape(max(one.slots for one in every), shapes[0].micro_batches, tuple(reach.tolist()))]


class _Plans:
    """The cheapest plans of 1, 2 ... `most` shapes that hold all batches.

    Batches are sorted by size, those that look back unusually far at the end. Dynamic programming cuts the sorted list
    into segments, with one shape each that holds all of the segment's batches, such that the total cost is least.

    Args:
        needs: smallest shape of each batch, all with the same number of micro-batches.
        most: largest number of shapes.

    Attributes:
        costs: [most] least cost of all batches (the sum of `Shape.cost`) with at most 1, 2 ... shapes.
    """

    def __init__(self, needs: Sequence[Need], most: int) -> None:
        self._slots, self._micro = max(need.slots for need in needs), needs[0].micro_batches
        reach = np.array([need.reach for need in needs])
        usual = np.quantile(reach[:, 1:], 0.9, axis=0)
        unusual = (reach[:, 1:] > usual).any(axis=1)
        keys, member, counts = np.unique(
            np.stack([unusual, reach[:, 0]], axis=1), axis=0, return_inverse=True, return_counts=True
        )
        self._largest = np.zeros((len(keys), reach.shape[1]), int)  # reach that holds all batches of a row
        np.maximum.at(self._largest, member.ravel(), reach)
        price, rows = _segment_costs(self._largest, counts), len(keys)
        best = np.full((most + 1, rows + 1), np.inf)
        best[:, 0] = 0
        self._cut = np.zeros((most + 1, rows + 1), int)  # where the last of at most so many segments starts
        for used in range(1, most + 1):
            totals = best[used - 1][:, None] + price
            self._cut[used], best[used] = totals.argmin(axis=0), totals.min(axis=0)
            best[used, 0] = 0
        self.costs = best[1:, rows]

    def shapes(self, most: int) -> list[Shape]:
        """The cheapest plan of at most `most` shapes."""
        runs, end, used = [], len(self._largest), most
        while end > 0:
            runs.append(self._largest[self._cut[used, end] : end])
            end, used = self._cut[used, end], used - 1
        return [Shape(self._slots, self._micro, tuple(run.max(axis=0).tolist())) for run in runs[::-1]]


def _segment_costs(largest: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Cost of the batches in the rows [start, end) in one shape: [start, end]; infinite where there are none.

    Args:
        largest: [rows, levels] `reach` that holds the batches of each row.
        counts: [rows] number of batches of each row.
    """
    rows = len(largest)
    costs = np.full((rows + 1, rows + 1), np.inf)
    for start in range(rows):
        reach, number = np.maximum.accumulate(largest[start:]), np.cumsum(counts[start:])
        costs[start, start + 1 :] = number * np.array([Shape(1, 1, tuple(r)).cost for r in reach])
    return costs
