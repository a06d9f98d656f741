"""Plans the few batch shapes that training compiles, such that padding costs least."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BLOCK = 32
"""Tokens in a block of local attention (measured on a 2-core CPU: 32 beats 16, 64 and 128 on AG News lengths)."""

LEVELS = tuple(2**i for i in range(1, 12))
"""How many blocks a block of attention may look back: 2, 4, 8 ..., as far as 65,537 tokens. (A level of one block would
save a thousandth of a step on news, and compile a quarter longer.)"""

LOOKBACK_COST = 0.03
"""Cost of looking back one block more, in units of all else that a block costs (measured as above, at 768 wide)."""


_EPOCHS, _UPDATES = 5, 5000  # that are planned together at first: so many epochs, or of so many updates


class Shape(NamedTuple):
    """The shape of a batch, for which training is compiled.

    Attributes:
        slots: largest number of texts in a micro-batch on one device.
        micro_batches: number of micro-batches that a device computes one after the other.
        reach: for each of `LEVELS`, number of leading blocks that look back at least so far; the first counts all.
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
        """Whether a batch with this smallest shape fits into this shape."""
        enough = all(mine >= asked for mine, asked in zip(self.reach, need.reach, strict=True))
        return enough and self.slots >= need.slots and self.micro_batches == need.micro_batches


Need = Shape
"""What one batch asks of a shape is the smallest shape that holds it."""


def choose(need: Need, shapes: Sequence[Shape]) -> Shape:
    """The cheapest of the planned shapes that holds a batch."""
    fits = [shape for shape in shapes if shape.holds(need)]
    if not fits:
        raise ValueError(f"no planned shape of {list(shapes)} holds {need}")
    return min(fits, key=lambda shape: shape.cost)


def joint(needs: Sequence[Need]) -> Need:
    """The smallest shape that holds several batches."""
    reach = np.max([need.reach for need in needs], axis=0)
    return Need(max(need.slots for need in needs), needs[0].micro_batches, tuple(reach.tolist()))


def plan_shapes(needs: Sequence[Need], most: int) -> list[Shape]:
    """Plans at most `most` shapes that hold all batches at the least cost.

    Batches are sorted by size, those that look back unusually far at the end. Dynamic programming cuts the sorted list
    into segments such that it costs least to give each batch the largest shape of its segment.

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
    """Groups of epochs whose shapes are planned together: the first ones, then as many again, up to `epochs`.

    The first groups don't depend on `epochs`: the first has 5 epochs, or fewer where these have very many updates.

    Args:
        epochs: number of epochs.
        steps: updates of an epoch.
    """
    spans = [range(-(-min(_EPOCHS * steps, _UPDATES) // steps))]
    while spans[-1].stop < epochs:
        spans.append(range(spans[-1].stop, 2 * spans[-1].stop))
    return spans


def extended(shapes: Sequence[Shape], needs: Sequence[Need]) -> list[Shape]:
    """The shapes, with one more where some batch fits into none of them; other batches keep theirs."""
    beyond = [need for need in needs if not any(shape.holds(need) for shape in shapes)]
    if not beyond:
        return list(shapes)
    every = [*shapes, *beyond]
    reach = np.max([one.reach for one in every], axis=0)
    return [*shapes, Shape(max(one.slots for one in every), shapes[0].micro_batches, tuple(reach.tolist()))]


def _runs(largest: np.ndarray, counts: np.ndarray, most: int) -> list[slice]:
    """Cuts the rows of `largest`, [rows, levels], into the `most` segments of least cost; `counts`: batches a row."""
    rows = len(largest)
    price = np.full((rows + 1, rows + 1), np.inf)  # [start, end): what that run would cost
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
