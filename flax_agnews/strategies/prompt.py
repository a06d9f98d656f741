"""Prompt tuning: soft prompt vectors and the head train (Lester et al. 2021, https://arxiv.org/abs/2104.08691)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.strategies.base import Entry, Strategy, at_one_rate, in_head, require
from flax_agnews.strategies.peft import Peft, tokens_setting, virtual_tokens


@dataclass
class PromptSettings:
    """Prompt tuning: soft prompt vectors before every text, and the head, train.

    Args:
        learning_rate: Learning rate of the prompt and the head.
        tokens: Number of soft prompt vectors before every text.
        initializer: Initial values of these vectors: `vocabulary`, embeddings of vocabulary entries drawn without
            replacement (Lester et al., section 3.2.1), `normal` with the body's initializer range, `uniform` in
            [-0.5, 0.5] (Lester et al.), or `unit_normal`, the original experiment's N(0, 1).
    """

    learning_rate: float = 5e-4
    tokens: int = 20
    initializer: Literal["vocabulary", "normal", "uniform", "unit_normal"] = "vocabulary"


def build(settings: PromptSettings, config: GPT2Config, section: str = "prompt") -> Strategy:
    """Adds a soft prompt; it and the head train, GPT-2 is frozen.

    Args:
        settings: settings of prompt tuning.
        config: configuration of the body.
        section: section of the settings, named in errors.
    """
    from jaxtyping import Array, Key  # imported here, with what follows, so that the settings are read without JAX

    from flax_agnews.models.classifier import ClassifierModule, Prompt
    from flax_agnews.models.prompts import INITIALIZERS

    def prompt(model: ClassifierModule, key: Key[Array, ""]) -> Prompt:
        return Prompt(INITIALIZERS[settings.initializer](model, key, settings.tokens))

    return before_texts("prompt", settings, config, prompt, _peft(settings, config), section)


def before_texts(
    name: str,
    settings: Any,
    config: GPT2Config,
    make: Callable[[Any, Any], Any],
    peft: Peft,
    section: str = "",
) -> Strategy:
    """Makes a strategy that puts a prompt or a prefix before every text; it and the head train.

    Args:
        name: name of the strategy.
        settings: its settings, with `tokens` and `learning_rate`.
        config: configuration of the body.
        make: (classifier, random key) -> the classifier's submodule `prompt` with its initial values.
        peft: how the method is written as a PEFT adapter.
        section: section of the settings, named in errors; by default the name.
    """
    from flax import nnx  # imported here, with what follows, so that the settings are read without JAX
    from jaxtyping import Array, Key

    from flax_agnews.models.classifier import ClassifierModule

    most = min(config.n_positions - 1, config.vocab_size)
    require(1 <= settings.tokens <= most, f"{section or name}.tokens", settings.tokens, f"1 to {most} with this model")

    def adapt(model: ClassifierModule, key: Key[Array, ""]) -> ClassifierModule:
        adapted = nnx.clone(model)
        adapted.prompt = make(model, key)
        return adapted

    def trains(path: str) -> bool:
        return path.startswith("prompt/") or in_head(path)

    return at_one_rate(name, settings, trains, section=section, adapt=adapt, peft=peft)


_PADDED = (
    "In a batch of texts of several lengths, PEFT gives other logits than to each text alone, whatever the side of the "
    "padding: it passes embeddings, of which GPT-2 pools the last position, padding or not, and counts positions from "
    "the padding on. Texts of one length in a batch (or one text) have the right ones."
)


def _tensor(path: str, value: np.ndarray) -> tuple[str, np.ndarray]:
    """(key, array) in PEFT: the prompt unchanged, the head transposed."""
    return ("prompt_embeddings", value) if path == "prompt/embedding" else ("base_model.score.weight", value.T)


def _peft(settings: PromptSettings, config: GPT2Config) -> Peft:
    """Prompt tuning as a PEFT adapter."""
    fields = virtual_tokens("PROMPT_TUNING", settings.tokens, config)
    return Peft({**fields, "prompt_tuning_init": "RANDOM"}, _tensor, tokens_setting, padded=_PADDED)


PROMPT = Entry("prompt", PromptSettings, build, "soft prompt and head", "https://arxiv.org/abs/2104.08691")
