"""A strategy of biases and head, as somebody outside the package writes it."""

from dataclasses import dataclass

from flax_agnews.strategies import Strategy
from flax_agnews.strategies.base import settings_of
from flax_agnews.strategies.optim import FROZEN


@dataclass
class BiasSettings:
    """Biases and head only (Ben Zaken et al. 2022, https://arxiv.org/abs/2106.10199).

    Args:
        learning_rate: of both.
    """

    learning_rate: float = 1e-2


def biases(settings, config):
    return Strategy(
        name="biases",
        label=lambda path, shape: "trained" if path.endswith("/bias") or path.startswith("score/") else FROZEN,
        transforms=lambda plan: {"trained": plan.adamw(settings.learning_rate)},
        settings=settings_of(settings),
    )
