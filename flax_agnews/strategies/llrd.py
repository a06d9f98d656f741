"""Layer-wise learning-rate decay: everything trains, lower layers at lower learning rates.

Sun et al. 2019, section 5.3.3 (https://arxiv.org/abs/1905.05583), whose decay is the default; Zhang et al. 2021
(https://arxiv.org/abs/2006.05987) compare it with other ways to stabilise fine-tuning.
"""

from dataclasses import dataclass

from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.strategies.base import Entry, Strategy, height, require, settings_of


@dataclass
class LlrdSettings:
    """Layer-wise learning-rate decay: everything trains, lower layers at lower learning rates.

    Args:
        learning_rate: Learning rate of the topmost layer, the final layer norm and the head.
        decay: Each layer's learning rate is that of the layer above times this number, above 0 and at most 1; the
            embeddings count as one more layer at the bottom.
    """

    learning_rate: float = 5e-5
    decay: float = 0.95


def build(settings: LlrdSettings, config: GPT2Config) -> Strategy:
    """Trains each layer at its own rate; the embeddings count as the lowest, the head as part of the topmost layer."""
    require(settings.learning_rate > 0, "llrd.learning_rate", settings.learning_rate, "above 0")
    require(0 < settings.decay <= 1, "llrd.decay", settings.decay, "above 0, at most 1")
    layers = config.n_layer
    names = ["embeddings", *(f"layer {layer}" for layer in range(layers - 1)), "top"]
    rates = {name: settings.learning_rate * settings.decay ** (layers - i) for i, name in enumerate(names)}
    return Strategy(
        name="llrd",
        label=lambda path, shape: names[min(height(path, layers), layers)],
        transforms=lambda plan: {name: plan.adamw(rate) for name, rate in rates.items()},
        settings=settings_of(settings),
    )


LLRD = Entry("llrd", LlrdSettings, build, "everything, the lower the slower", "https://arxiv.org/abs/1905.05583")
