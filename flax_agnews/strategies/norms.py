"""LN-tuning: the layer norms and the head train (Qi et al. 2022, https://arxiv.org/abs/2211.08682)."""

from dataclasses import dataclass

from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.strategies.base import Entry, Strategy, at_one_rate, in_head


@dataclass
class NormsSettings:
    """LN-tuning: the layer norms and the head train.

    Args:
        learning_rate: Learning rate of the layer norms and the head.
    """

    learning_rate: float = 1e-3


def build(settings: NormsSettings, config: GPT2Config) -> Strategy:
    """Trains scale and bias of every ln_1, ln_2 and ln_f, and the head."""
    return at_one_rate("norms", settings, lambda path: "/ln_" in path or in_head(path))


NORMS = Entry("norms", NormsSettings, build, "layer norms and head", "https://arxiv.org/abs/2211.08682")
