"""Which few shapes hold every batch, at the least cost."""

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
    """What is compiled.

    Attributes:
        slots: texts a device and micro-batch.
        micro_batches: on a device, one after the other.
        reach: for each of `LEVELS`, how many leading blocks look back at least so far; the first is all blocks.
    """

    slots: int
    micro_batches: int
    reach: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens a device and micro-batch."""
        return self.reach[0] * BLOCK

    @property
    def cost(self) -> float:
        """Of a micro-batch, in blocks: its tokens, and how far they look back."""
        further = np.diff((0, *LEVELS))
        return self.reach[0] + LOOKBACK_COST * float(np.dot(further, self.reach))

    def holds(self, need: "Shape") -> bool:
        """Whether a batch that needs that much fits."""
        enough = all(mine >= asked for mine, asked in zip(self.reach, need.reach, strict=True))
        return enough and self.slots >= need.slots and self.micro_batches == need.micro_batches


Need = Shape
"""What one batch asks of a shape is the smallest shape that holds it."""


def choose(need: Need, shapes: Sequence[Shape]) -> Shape:
    """The cheapest planned shape that holds a batch."""
    fits = [shape for shape in shapes if shape.holds(need)]
    if not fits:
        raise ValueError(f"no planned shape of {list(shapes)} holds {need}")
    return min(fits, key=lambda shape: shape.cost)


def joint(needs: Sequence[Need]) -> Need:
    """What batches need that have one shape."""
    reach = np.max([need.reach for need in needs], axis=0)
    return Need(max(need.slots for need in needs), needs[0].micro_batches, tuple(reach.tolist()))


def plan_shapes(needs: Sequence[Need], most: int) -> list[Shape]:
    """The few shapes, at most `most`, that hold every batch at the least cost.

    Batches stand in a row, those that look back unusually far behind the others, the smaller first; the row is cut
    into runs, by dynamic programming, so that giving each batch of a run the largest of the run costs least in all.

    Args:
        needs: of every batch, all with the same number of micro-batches.
        most: shapes.
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
    """Epochs that are planned together: the first ones, then as many again, until there are `epochs`.

    However many are asked for, they begin alike: with 5 epochs, or fewer where these are very many updates.

    Args:
        epochs: that are asked for.
        steps: updates of each.
    """
    spans = [range(-(-min(_EPOCHS * steps, _UPDATES) // steps))]
    while spans[-1].stop < epochs:
        spans.append(range(spans[-1].stop, 2 * spans[-1].stop))
    return spans


def extended(shapes: Sequence[Shape], needs: Sequence[Need]) -> list[Shape]:
    """The shapes, and one more where some batch fits in none of them; what fits in one goes there as before."""
    beyond = [need for need in needs if not any(shape.holds(need) for shape in shapes)]
    if not beyond:
        return list(shapes)
    every = [*shapes, *beyond]
    reach = np.max([one.reach for one in every], axis=0)
    return [*shapes, Shape(max(one.slots for one in every), shapes[0].micro_batches, tuple(reach.tolist()))]


def _runs(largest: np.ndarray, counts: np.ndarray, most: int) -> list[slice]:
    """At most `most` runs of the rows of `largest`, [rows, levels], that cost least; `counts` batches have each row."""
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
