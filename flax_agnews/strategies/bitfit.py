"""BitFit: the biases and the head train (Ben Zaken et al. 2022, https://arxiv.org/abs/2106.10199)."""

from dataclasses import dataclass

from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.strategies.base import Entry, Strategy, at_one_rate, in_head


@dataclass
class BitfitSettings:
    """BitFit: the biases and the head train.

    Args:
        learning_rate: Learning rate of the biases and the head; the default is that of the authors' program.
    """

    learning_rate: float = 1e-3


def build(settings: BitfitSettings, config: GPT2Config) -> Strategy:
    """Trains the biases of linear layers and layer norms, and the head, which has no bias."""
    return at_one_rate("bitfit", settings, lambda path: path.endswith("/bias") or in_head(path), label="biases")


BITFIT = Entry("bitfit", BitfitSettings, build, "biases and head", "https://arxiv.org/abs/2106.10199")
