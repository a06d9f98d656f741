"""LN-tuning: the layer norms and the head train (Qi et al. 2022, https://arxiv.org/abs/2211.08682)."""

from dataclasses import dataclass

from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.strategies.base import FROZEN, Entry, Strategy, require, settings_of


@dataclass
class NormsSettings:
    """Layer norms.

    Args:
        learning_rate: of layer norms and head.
    """

    learning_rate: float = 1e-3


def build(settings: NormsSettings, config: GPT2Config) -> Strategy:
    """Trains scale and bias of every ln_1, ln_2 and ln_f, and the head."""
    require(settings.learning_rate > 0, "norms.learning_rate", settings.learning_rate, "above 0")

    def label(path: str, shape: tuple[int, ...]) -> str:
        return FROZEN if path.startswith("transformer/") and "/ln_" not in path else "norms"

    return Strategy(
        name="norms",
        label=label,
        transforms=lambda plan: {"norms": plan.adamw(settings.learning_rate)},
        settings=settings_of(settings),
    )


NORMS = Entry("norms", NormsSettings, build, "layer norms and head", "https://arxiv.org/abs/2211.08682")
