"""AdamW that shows its numbers, so that learning rates are read from it instead of measured by running it."""

from collections.abc import Callable
from typing import Any

import optax


class AdamW(optax.GradientTransformationExtraArgs):
    """`optax.adamw` with the numbers that it was made from.

    Attributes:
        schedule: learning rate by number of updates.
        weight_decay: weight decay, as a multiple of the learning rate.
        mask: tree of leaves -> for each, whether it has weight decay; None: all have.
    """

    schedule: optax.Schedule
    weight_decay: float
    mask: Callable[[Any], Any] | None


def adamw(schedule: optax.Schedule, weight_decay: float, mask: Callable[[Any], Any] | None) -> AdamW:
    """Makes AdamW with optax's other defaults, which are torch's."""
    made = AdamW(*optax.adamw(schedule, weight_decay=weight_decay, mask=mask))
    made.schedule, made.weight_decay, made.mask = schedule, weight_decay, mask
    return made
