"""LoRA: low-rank updates beside frozen products, and the head (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from flax_agnews.models.classifier import Classifier
from flax_agnews.models.dropout import ADDED_SITES, Noise, Place
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.layers import Linear, product
from flax_agnews.models.linear_replacement import PRODUCTS, replaced
from flax_agnews.strategies.base import FROZEN, Entry, Strategy, require, settings_of
from flax_agnews.strategies.peft import PADDED_RIGHT, Peft


@dataclass
class LoraSettings:
    """LoRA.

    Args:
        learning_rate: of the updates and the head. Hu et al. (table 9, RoBERTa base) have 4e-4 to 5e-4 for this rank
            and alpha; ten times full fine-tuning's is what Schulman et al. 2025 ("LoRA Without Regret") find best.
        rank: of an update, at most the body's width.
        alpha: an update is scaled by alpha / rank.
        targets: the products that get one, with commas between: c_attn, c_fc, c_proj (attention's and MLP's), or
            attn.c_proj and mlp.c_proj alone. A list of them, too, in a script. PEFT's default for GPT-2, as are rank,
            alpha and dropout.
        dropout: of what enters an update, 0 to below 1.
        rslora: scale by alpha / sqrt(rank) instead (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732).
        top_layers: only so many of the topmost layers; those below are computed once for all epochs. By default, all.
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


class Lora(Linear):
    """A linear layer and its update, x @ lora_a @ lora_b, scaled.

    Args:
        plain: the layer.
        a, b: [in, rank] and [rank, out] first values.
        scale: of the update.
        rate: of dropout on what enters the update.
        depth, site: where that draws.
    """

    def __init__(self, plain: Linear, a: Array, b: Array, scale: float, rate: float, depth: int, site: int) -> None:
        super().__init__(plain.kernel, plain.bias)
        self.lora_a, self.lora_b = nnx.Param(a), nnx.Param(b)
        self.scale, self.rate, self.depth, self.site = scale, rate, depth, site

    def __call__(
        self,
        x: Array,
        dtype: Any = jnp.float32,
        columns: slice = slice(None),
        noise: Noise | None = None,
        place: Place | None = None,
    ) -> Array:
        """As `Linear`."""
        y = super().__call__(x, dtype, columns)
        if noise is not None and place is not None:
            x = noise.drop(x, self.rate, self.depth, self.site, place)
        return y + product(self.scale * product(x, self.lora_a[...], dtype), self.lora_b[...][:, columns], dtype)

    @property
    def update(self) -> Array:
        """What training has added to the kernel: [in, out]."""
        return self.scale * jnp.matmul(self.lora_a[...], self.lora_b[...], precision="highest")

    def merged(self) -> Linear:
        """The same function as a plain linear layer, but for dropout."""
        return Linear(nnx.Param(self.kernel[...] + self.update), self.bias)

    def unmerged(self, plain: Linear) -> "Lora":
        """The layer with this one's update whose `merged` is `plain`."""
        base = Linear(nnx.Param(plain.kernel[...] - self.update), plain.bias)
        how = self.scale, self.rate, self.depth, self.site
        return Lora(base, self.lora_a[...], self.lora_b[...], *how)


def build(settings: LoraSettings, config: GPT2Config, section: str = "lora") -> Strategy:
    """Adds updates that start from nothing; they and the head train, all of GPT-2 is frozen.

    Args:
        section: of the settings, for errors.
    """
    targets = _checked(settings, config, section)
    bottom = 0 if settings.top_layers is None else config.n_layer - settings.top_layers
    scale = settings.alpha / (settings.rank**0.5 if settings.rslora else settings.rank)

    def adapt(model: Classifier, key: Array) -> Classifier:
        def change(layer: int, name: str, plain: Linear) -> Linear:
            if layer < bottom or name not in targets:
                return plain
            site = PRODUCTS.index(name)
            n_in, n_out = plain.kernel.shape
            # PEFT's and loralib's: kaiming_uniform_ with a = sqrt(5), which is this bound, and zero
            # (https://github.com/microsoft/LoRA/blob/main/loralib/layers.py, `reset_parameters`).
            own = jax.random.fold_in(key, layer * len(PRODUCTS) + site)
            a = jax.random.uniform(own, (n_in, settings.rank), minval=-1, maxval=1) / n_in**0.5
            b = jnp.zeros((settings.rank, n_out))
            return Lora(plain, a, b, scale, settings.dropout, layer + 1, ADDED_SITES + site)

        return replaced(model, change)

    return Strategy(
        name="lora",
        adapt=adapt,
        label=lambda path, shape: "lora" if path.startswith("score/") or "/lora_" in path else FROZEN,
        transforms=lambda plan: {"lora": plan.adamw(settings.learning_rate)},
        settings=settings_of(settings),
        peft=_peft(settings, config),
    )


def _checked(settings: LoraSettings, config: GPT2Config, section: str) -> set[str]:
    """The names of the targets, of settings that are possible."""
    require(settings.learning_rate > 0, f"{section}.learning_rate", settings.learning_rate, "above 0")
    require(1 <= settings.rank <= config.n_embd, f"{section}.rank", settings.rank, f"1 to {config.n_embd}, the width")
    require(settings.alpha > 0, f"{section}.alpha", settings.alpha, "above 0")
    require(0 <= settings.dropout < 1, f"{section}.dropout", settings.dropout, "at least 0 and below 1")
    top, layers = settings.top_layers, config.n_layer
    require(top is None or 1 <= top <= layers, f"{section}.top_layers", top, f"1 to {layers}, the model's layers")
    # A target is the end of a product's name, as in PEFT.
    meant = [{name for name in PRODUCTS if f".{name}".endswith(f".{end}")} for end in _names(settings.targets)]
    known = "some of c_attn, c_fc, c_proj, attn.c_proj, mlp.c_proj, with commas between"
    require(bool(meant) and all(meant), f"{section}.targets", settings.targets, known)
    return set().union(*meant)


def _names(targets: str) -> list[str]:
    return [name.strip() for name in targets.split(",") if name.strip()]


_LEAVES = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight", "kernel": "weight"}
_UPDATED = re.compile(
    rf"base_model\.model\.transformer\.h\.(\d+)\.({'|'.join(map(re.escape, PRODUCTS))})\.lora_A\.weight"
)


def _peft(settings: LoraSettings, config: GPT2Config) -> Peft:
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
