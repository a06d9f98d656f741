"""Partial fine-tuning: the upper layers train, the topmost of them at a higher learning rate.

Lee et al. 2019 (https://arxiv.org/abs/1911.03090) show that the lower layers can stay frozen.
"""

import math
from dataclasses import dataclass

from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.strategies.base import FROZEN, Entry, Strategy, height, require, settings_of


@dataclass
class PartialSettings:
    """Partial fine-tuning: the upper layers train, the topmost of them at a higher learning rate.

    Args:
        learning_rate: Learning rate of the base group: the trained layers below the top group.
        frozen_fraction: Share of the layers that is frozen, 0 to 1, from the lowest up and rounded down; the embeddings
            are always frozen.
        top_layers: Number of layers in the top group, which also has the final layer norm and the head; by default a
            quarter of all layers, rounded up. Frozen layers are never in it.
        top_multiplier: The top group's learning rate is `learning_rate` times this number.
    """

    learning_rate: float = 5e-5
    frozen_fraction: float = 0.5
    top_layers: int | None = None
    top_multiplier: float = 5.0


def build(settings: PartialSettings, config: GPT2Config) -> Strategy:
    """Freezes the embeddings and the lower layers; trains a base group, which may be empty, and a top group."""
    require(settings.learning_rate > 0, "partial.learning_rate", settings.learning_rate, "above 0")
    require(0 <= settings.frozen_fraction <= 1, "partial.frozen_fraction", settings.frozen_fraction, "0 to 1")
    require(settings.top_multiplier > 0, "partial.top_multiplier", settings.top_multiplier, "above 0")
    layers = config.n_layer
    top = math.ceil(layers / 4) if settings.top_layers is None else settings.top_layers
    require(0 <= top <= layers, "partial.top_layers", top, f"0 to {layers}, the model's layers")
    # A share such as 15/22 of 22 layers is 14.999... in floating point, and means 15.
    first_trained = math.floor(layers * settings.frozen_fraction + 1e-9)
    first_top = max(first_trained, layers - top)

    def label(path: str, shape: tuple[int, ...]) -> str:
        place = height(path, layers)
        return FROZEN if place <= first_trained else "base" if place <= first_top else "top"

    rates = {"base": settings.learning_rate, "top": settings.learning_rate * settings.top_multiplier}
    groups = [group for group in rates if group == "top" or first_trained < first_top]
    return Strategy(
        name="partial",
        label=label,
        transforms=lambda plan: {group: plan.adamw(rates[group]) for group in groups},
        settings=settings_of(settings),
    )


PARTIAL = Entry(
    "partial",
    PartialSettings,
    build,
    "upper layers, final layer norm and head",
    "https://arxiv.org/abs/1911.03090",
)
