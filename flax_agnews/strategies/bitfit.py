"""BitFit: the biases and the head train (Ben Zaken et al. 2022, https://arxiv.org/abs/2106.10199)."""

from dataclasses import dataclass

from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.strategies.base import FROZEN, Entry, Strategy, require, settings_of


@dataclass
class BitfitSettings:
    """BitFit.

    Args:
        learning_rate: of biases and head; the default is that of the authors' program.
    """

    learning_rate: float = 1e-3


def build(settings: BitfitSettings, config: GPT2Config) -> Strategy:
    """Trains the biases of linear layers and layer norms, and the head, which has none."""
    require(settings.learning_rate > 0, "bitfit.learning_rate", settings.learning_rate, "above 0")

    def label(path: str, shape: tuple[int, ...]) -> str:
        return FROZEN if path.startswith("transformer/") and not path.endswith("/bias") else "biases"

    return Strategy(
        name="bitfit",
        label=label,
        transforms=lambda plan: {"biases": plan.adamw(settings.learning_rate)},
        settings=settings_of(settings),
    )


BITFIT = Entry("bitfit", BitfitSettings, build, "biases and head", "https://arxiv.org/abs/2106.10199")
