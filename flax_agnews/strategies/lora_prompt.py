"""LoRA and prompt tuning together: low-rank updates, a soft prompt before every text and the head train."""

from dataclasses import dataclass, replace
from typing import Literal

from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.strategies import lora, prompt
from flax_agnews.strategies.base import FROZEN, Entry, Strategy, require, settings_of


@dataclass
class LoraPromptSettings(lora.LoraSettings):
    """LoRA and prompt tuning together: low-rank updates, a soft prompt and the head train.

    Args:
        prompt_learning_rate: Learning rate of the prompt; `learning_rate` is that of the updates and the head.
        tokens: Number of soft prompt vectors before every text.
        initializer: Initial values of these vectors, as in `prompt.initializer`.
    """

    prompt_learning_rate: float = 5e-4
    tokens: int = 20
    initializer: Literal["vocabulary", "normal", "uniform", "unit_normal"] = "vocabulary"


def build(settings: LoraPromptSettings, config: GPT2Config) -> Strategy:
    """Adds LoRA's updates and a soft prompt; they and the head train, all of GPT-2 is frozen."""
    import jax  # this and what follows is imported here so that the settings are read without JAX
    from jaxtyping import Array, Key

    from flax_agnews.models.classifier import ClassifierModule

    section, rate = "lora_prompt", settings.prompt_learning_rate
    require(rate > 0, f"{section}.prompt_learning_rate", rate, "above 0")
    updates = lora.build(settings, config, section)
    vectors = prompt.build(prompt.PromptSettings(rate, settings.tokens, settings.initializer), config, section)

    def adapt(model: ClassifierModule, key: Key[Array, ""]) -> ClassifierModule:
        first, second = jax.random.split(key)
        return updates.adapt(vectors.adapt(model, first), second)

    def label(path: str, shape: tuple[int, ...]) -> str | None:
        own = updates.label(path, shape)
        return vectors.label(path, shape) if own == FROZEN else own

    return replace(
        updates,
        name="lora_prompt",
        adapt=adapt,
        label=label,
        transforms=lambda plan: {**updates.transforms(plan), **vectors.transforms(plan)},
        settings=settings_of(settings),
        peft=None,  # a PEFT adapter has one method
    )


LORA_PROMPT = Entry(
    "lora_prompt",
    LoraPromptSettings,
    build,
    "low-rank updates, soft prompt and head",
    "https://arxiv.org/abs/2106.09685",
)
