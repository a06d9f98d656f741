"""The jobs of a comparison, each of which trains by itself: one strategy, from one seed or several together."""

from collections.abc import Sequence
from dataclasses import dataclass

from flax_agnews.training.state import Setup


@dataclass(frozen=True)
class RunsJob:
    """Runs that train together; usually one.

    Attributes:
        setup: the strategy on the model, at its chosen learning rates.
        seeds: seeds of the runs.
    """

    setup: Setup
    seeds: Sequence[int]
