"""Plans the few batch shapes for which training is compiled, such that padding costs least."""

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


_EPOCHS, _UPDATES = 5, 5000  # largest number of epochs, and of updates, in the first group that is planned together


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


Need = Shape
"""The smallest shape that holds a given batch."""


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

    Batches are sorted by size, those that look back unusually far at the end. Dynamic programming cuts the sorted list
    into segments, with one shape each that holds all of the segment's batches, such that the total cost is least.

    Args:
        needs: smallest shape of each batch, all with the same number of micro-batches.
        most: largest number of shapes.
    """
    slots, micro = max(need.slots for need in needs), needs[0].micro_batches
    reach = np.array([need.reach for need in needs])
    usual = np.quantile(reach[:, 1:], 0.9, axis=0)
    unusual = (reach[:, 1:] > usual).any(axis=1)
    keys, member, counts = np.unique(
        np.stack([unusual, reach[:, 0]], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    largest = np.zeros((len(keys), reach.shape[1]), int)
    np.maximum.at(largest, member.ravel(), reach)
    return [Shape(slots, micro, tuple(largest[run].max(axis=0).tolist())) for run in _runs(largest, counts, most)]


def planned_epochs(epochs: int, steps: int) -> list[range]:
    """Groups of epochs whose shapes are planned together; each doubles the number of planned epochs.

    The groups don't depend on `epochs`, except how many there are: the first has 5 epochs, or fewer if these have more
    than 5000 updates.

    Args:
        epochs: number of epochs.
        steps: updates per epoch.
    """
    spans = [range(-(-min(_EPOCHS * steps, _UPDATES) // steps))]
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


def _runs(largest: np.ndarray, counts: np.ndarray, most: int) -> list[slice]:
    """Cuts sorted batches into at most `most` segments of least total cost.

    Args:
        largest: [rows, levels] `reach` that holds the batches of each row.
        counts: [rows] number of batches of each row.
        most: largest number of segments.
    """
    rows = len(largest)
    price = np.full((rows + 1, rows + 1), np.inf)  # of the segment [start, end)
    for start in range(rows):
        reach, number = np.maximum.accumulate(largest[start:]), np.cumsum(counts[start:])
        price[start, start + 1 :] = number * np.array([Shape(1, 1, tuple(r)).cost for r in reach])
    best = np.full((most + 1, rows + 1), np.inf)
    best[:, 0] = 0
    cut = np.zeros((most + 1, rows + 1), int)
    for used in range(1, most + 1):
        totals = best[used - 1][:, None] + price
        cut[used], best[used] = totals.argmin(axis=0), totals.min(axis=0)
        best[used, 0] = 0
    runs, end, used = [], rows, most
    while end > 0:
        runs.append(slice(cut[used, end], end))
        end, used = cut[used, end], used - 1
    return runs[::-1]
