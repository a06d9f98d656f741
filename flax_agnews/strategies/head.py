"""A linear probe: the head alone trains (Alain & Bengio 2016, https://arxiv.org/abs/1610.01644)."""

from dataclasses import dataclass

from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.strategies.base import Entry, Strategy, at_one_rate, in_head


@dataclass
class HeadSettings:
    """Linear probe: only the head trains, on a frozen body.

    Args:
        learning_rate: Learning rate of the head.
    """

    learning_rate: float = 1e-2


def build(settings: HeadSettings, config: GPT2Config) -> Strategy:
    """Trains only the head; GPT-2 is frozen, so its output can be cached and an epoch takes seconds."""
    return at_one_rate("head", settings, in_head)


HEAD = Entry("head", HeadSettings, build, "head", "https://arxiv.org/abs/1610.01644")
