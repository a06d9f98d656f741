"""LoRA: low-rank updates of linear layers, and the head (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flax_agnews.models.gpt2_config import LINEAR_LAYERS, GPT2Config
from flax_agnews.strategies.base import Entry, Strategy, at_one_rate, in_head, require
from flax_agnews.strategies.peft import PADDED_RIGHT, Peft


@dataclass
class LoraSettings:
    """LoRA: low-rank updates of linear layers and the head train.

    Args:
        learning_rate: Learning rate of the updates and the head. Hu et al. (table 9, RoBERTa base) use 4e-4 to 5e-4 for
            this rank and alpha; Schulman et al. 2025 ("LoRA Without Regret") find ten times the rate of full
            fine-tuning best.
        rank: Rank of each update, 1 to the body's width.
        alpha: Each update is multiplied by alpha / rank.
        targets: Linear layers that get an update, separated by commas: c_attn, c_fc, c_proj (attention's and the
            MLP's), or only one of the latter as attn.c_proj or mlp.c_proj; in a script also a list. The default is
            PEFT's for GPT-2, as are those of rank, alpha and dropout.
        dropout: Dropout rate on the input of each update, 0 to below 1.
        rslora: Multiply by alpha / sqrt(rank) instead (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732).
        top_layers: Number of layers with updates, counted from the top; the frozen layers below are computed once for
            all epochs. By default all.
    """

    learning_rate: float = 5e-4
    rank: int = 8
    alpha: float = 8.0
    targets: str = "c_attn"
    dropout: float = 0.0
    rslora: bool = False
    top_layers: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.targets, list | tuple):  # as PEFT's `target_modules`
            self.targets = ",".join(map(str, self.targets))


def build(settings: LoraSettings, config: GPT2Config, section: str = "lora") -> Strategy:
    """Adds low-rank updates, at first zero; they and the head train, GPT-2 is frozen.

    Args:
        settings: settings of LoRA.
        config: configuration of the body.
        section: section of the settings, named in errors.
    """
    import jax  # this and what follows is imported here so that the settings are read without JAX
    from jaxtyping import Array, Key

    from flax_agnews.models.classifier import ClassifierModule
    from flax_agnews.models.dropout import ADDED_SITES
    from flax_agnews.models.layers import Linear
    from flax_agnews.models.linear_replacement import replaced
    from flax_agnews.models.lora import Lora, first_update

    targets = _checked(settings, config, section)
    bottom = 0 if settings.top_layers is None else config.n_layer - settings.top_layers
    scale = settings.alpha / (settings.rank**0.5 if settings.rslora else settings.rank)

    def adapt(model: ClassifierModule, key: Key[Array, ""]) -> ClassifierModule:
        def change(layer: int, name: str, plain: Linear) -> Linear:
            if layer < bottom or name not in targets:
                return plain
            number = LINEAR_LAYERS.index(name)
            n_in, n_out = plain.kernel.shape
            own = jax.random.fold_in(key, layer * len(LINEAR_LAYERS) + number)
            a, b = first_update(own, n_in, n_out, settings.rank)
            rate, site = settings.dropout, ADDED_SITES + number
            return Lora(plain, a, b, scale=scale, rate=rate, site=site)

        return replaced(model, change)

    def trains(path: str) -> bool:
        return "/lora_" in path or in_head(path)

    return at_one_rate("lora", settings, trains, section=section, adapt=adapt, peft=_peft(settings, config))


def _checked(settings: LoraSettings, config: GPT2Config, section: str) -> set[str]:
    """Checks the settings; returns the full names of the target layers (`attn.c_attn`)."""
    require(1 <= settings.rank <= config.n_embd, f"{section}.rank", settings.rank, f"1 to {config.n_embd}, the width")
    require(settings.alpha > 0, f"{section}.alpha", settings.alpha, "above 0")
    require(0 <= settings.dropout < 1, f"{section}.dropout", settings.dropout, "at least 0 and below 1")
    top, layers = settings.top_layers, config.n_layer
    require(top is None or 1 <= top <= layers, f"{section}.top_layers", top, f"1 to {layers}, the model's layers")
    # A target is the end of a linear layer's name, as in PEFT.
    meant = [{name for name in LINEAR_LAYERS if f".{name}".endswith(f".{end}")} for end in _names(settings.targets)]
    known = "some of c_attn, c_fc, c_proj, attn.c_proj, mlp.c_proj, with commas between"
    require(bool(meant) and all(meant), f"{section}.targets", settings.targets, known)
    return set().union(*meant)


def _names(targets: str) -> list[str]:
    return [name.strip() for name in targets.split(",") if name.strip()]


_LEAVES = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "kernel": "weight"}
_UPDATED = re.compile(
    rf"base_model\.model\.transformer\.h\.(\d+)\.({'|'.join(map(re.escape, LINEAR_LAYERS))})\.lora_A\.weight"
)


def _peft(settings: LoraSettings, config: GPT2Config) -> Peft:
    """LoRA as a PEFT adapter."""
    top, layers = settings.top_layers, config.n_layer

    def tensor(path: str, value: np.ndarray) -> tuple[str, np.ndarray]:
        *parts, leaf = path.split("/")
        return ".".join(["base_model.model", *parts, _LEAVES[leaf]]), value.T

    def decided(fields: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
        updated = [found.groups() for key in keys if (found := _UPDATED.fullmatch(key))]
        scale = {"rank": fields.get("r", 8), "alpha": fields.get("lora_alpha", 8)}  # 8 is PEFT's default
        scale["rslora"] = fields.get("use_rslora", False)
        if not updated:
            return scale
        targets = ",".join(sorted({product for _, product in updated}))
        return {**scale, "targets": targets, "top_layers": len({layer for layer, _ in updated})}

    return Peft(
        fields={
            "peft_type": "LORA",
            "r": settings.rank,
            "lora_alpha": settings.alpha,
            "lora_dropout": settings.dropout,
            "use_rslora": settings.rslora,
            "target_modules": _names(settings.targets),
            "layers_to_transform": None if top is None else list(range(layers - top, layers)),
            "fan_in_fan_out": True,
        },
        tensor=tensor,
        settings=decided,
        padded=PADDED_RIGHT,
    )


LORA = Entry("lora", LoraSettings, build, "low-rank updates and head", "https://arxiv.org/abs/2106.09685")
