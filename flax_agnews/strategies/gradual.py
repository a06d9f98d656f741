"""Gradual unfreezing with discriminative rates: ULMFiT (Howard & Ruder 2018, https://arxiv.org/abs/1801.06146)."""

import math
from dataclasses import dataclass

from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.strategies.base import Entry, Stage, Strategy, height, require, settings_of
from flax_agnews.strategies.plan import Plan, Transform


@dataclass
class GradualSettings:
    """Gradual unfreezing: the head trains first, then groups of layers join it from the top down.

    Args:
        learning_rate: Learning rate of the first group, the head and the final layer norm.
        factor: Each group's learning rate is that of the group above divided by this number, 1 or more; 2.6 is
            ULMFiT's.
        layers: Number of layers in each further group; the lowest group has the embeddings too. By default a third of
            all layers, rounded up, since ULMFiT's body has three layers.
        epochs: Epochs until the next group joins; a group that the run doesn't reach stays frozen.
    """

    learning_rate: float = 1e-3
    factor: float = 2.6
    layers: int | None = None
    epochs: int = 1


def build(settings: GradualSettings, config: GPT2Config) -> Strategy:
    """Trains the head first; every `settings.epochs` epochs the next group of layers joins, at a lower rate."""
    layers = config.n_layer
    each = math.ceil(layers / 3) if settings.layers is None else settings.layers
    require(settings.learning_rate > 0, "gradual.learning_rate", settings.learning_rate, "above 0")
    require(settings.factor >= 1, "gradual.factor", settings.factor, "1 or more")
    require(1 <= each <= layers, "gradual.layers", each, f"1 to {layers}, the model's layers")
    require(settings.epochs >= 1, "gradual.epochs", settings.epochs, "1 or more")
    groups = [f"group {number}" for number in range(1 + math.ceil(layers / each))]

    def label(path: str, shape: tuple[int, ...]) -> str:
        above = layers - max(height(path, layers), 1)  # layers above the parameter's; -1 for the head and ln_f
        return groups[above // each + 1]

    def transforms(plan: Plan) -> dict[str, Transform]:
        waits = settings.epochs * plan.steps_per_epoch
        return {
            name: plan.adamw(settings.learning_rate / settings.factor**i, begun=i * waits)
            for i, name in enumerate(groups)
        }

    return Strategy(
        name="gradual",
        label=label,
        transforms=transforms,
        settings=settings_of(settings),
        stages=[Stage(i * settings.epochs, groups[: i + 1]) for i in range(len(groups))],
    )


GRADUAL = Entry(
    "gradual",
    GradualSettings,
    build,
    "head, then more and more layers below it",
    "https://arxiv.org/abs/1801.06146",
)
