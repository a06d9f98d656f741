"""A linear probe: the head alone trains (Alain & Bengio 2016, https://arxiv.org/abs/1610.01644)."""

from dataclasses import dataclass

from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.strategies.base import FROZEN, Entry, Strategy, require, settings_of


@dataclass
class HeadSettings:
    """A trained head on a frozen body.

    Args:
        learning_rate: of the head.
    """

    learning_rate: float = 1e-2


def build(settings: HeadSettings, config: GPT2Config) -> Strategy:
    """All of GPT-2 is frozen, so that an epoch on its kept activations takes seconds."""
    require(settings.learning_rate > 0, "head.learning_rate", settings.learning_rate, "above 0")
    return Strategy(
        name="head",
        label=lambda path, shape: FROZEN if path.startswith("transformer/") else "head",
        transforms=lambda plan: {"head": plan.adamw(settings.learning_rate)},
        settings=settings_of(settings),
    )


HEAD = Entry("head", HeadSettings, build, "head", "https://arxiv.org/abs/1610.01644")
