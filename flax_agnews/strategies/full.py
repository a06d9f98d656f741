"""Full fine-tuning: everything trains, at one rate (Dai & Le 2015, https://arxiv.org/abs/1511.01432)."""

from dataclasses import dataclass

from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.strategies.base import Entry, Strategy, at_one_rate


@dataclass
class FullSettings:
    """Full fine-tuning: all parameters train.

    Args:
        learning_rate: Learning rate of all parameters.
    """

    learning_rate: float = 5e-5


def build(settings: FullSettings, config: GPT2Config) -> Strategy:
    """Trains every parameter at one rate."""
    return at_one_rate("full", settings, lambda path: True, label="everything")


FULL = Entry("full", FullSettings, build, "everything", "https://arxiv.org/abs/1511.01432")
