"""GPT-2 the naive way, as a reference: one text, unpadded, full causal attention, a soft prompt as a plain prefix, and
what strategies add to the body, found by the names of its parameters.

Shares no code with the library but the parameters' names. Runs in NumPy (float64) or, for gradients, in PyTorch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

PROMPT = 2**32 - 1  # text number of a soft prompt's tokens
GOLDEN = np.uint32(0x9E3779B1)
LORA = 2**16  # the first of the sites of low-rank updates, in the order of PRODUCTS
PRODUCTS = ("attn/c_attn", "attn/c_proj", "mlp/c_fc", "mlp/c_proj")


@dataclass(frozen=True)
class Draws:
    """What a step's dropout masks are drawn from.

    `rates`: embedding, attention weights, residual; `noisy`: whether the embedding and each layer draw; `lora`: of what
    enters a low-rank update.
    """

    seed: int
    step: int
    rates: tuple[float, float, float]
    noisy: tuple[bool, ...]
    lora: float = 0.0

    def kept(self, depth: int, site: int, text: np.ndarray, position: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Which units stay: [tokens, ...units]."""
        key = np.array([depth * 4 + site], np.uint32)
        for coordinate in (np.array([self.seed]), np.array([self.step]), text, position):
            key = fold(key, coordinate.astype(np.uint32))
        rows = key.reshape(-1, *[1] * units.ndim)
        return finalizer(rows ^ units.astype(np.uint32) * GOLDEN) >= self._rate(site) * 2**32

    def scale(self, depth: int, site: int, text: np.ndarray, position: np.ndarray, units: np.ndarray) -> Any:
        """What units are multiplied by: [tokens, ...units], or 1."""
        rate = self._rate(site) if self.noisy[depth] or site >= LORA else 0.0
        return 1 if rate == 0 else self.kept(depth, site, text, position, units) / (1 - rate)

    def _rate(self, site: int) -> float:
        return self.lora if site >= LORA else self.rates[min(site, 2)]


def finalizer(h: np.ndarray) -> np.ndarray:
    """MurmurHash3's 32-bit finalizer, as published."""
    h = (h ^ h >> np.uint32(16)) * np.uint32(0x85EBCA6B)
    h = (h ^ h >> np.uint32(13)) * np.uint32(0xC2B2AE35)
    return h ^ h >> np.uint32(16)


def fold(h: np.ndarray, value: np.ndarray) -> np.ndarray:
    return finalizer((h * np.uint32(5) + np.uint32(0xE6546B64)) ^ (value * GOLDEN))


def logits(
    weights: Mapping[str, Any], ids: np.ndarray, config: Any, draws: Draws | None = None, number: int = 0, xp: Any = np
) -> Any:
    """Class scores of one text: [classes].

    Args:
        weights: path -> array; `prompt/embedding`, where present, is put before the text, and `prompt/keys_values`
            before its keys and values. Low-rank updates have a scale of 1.
        ids: [tokens] of the text.
        config: of the body.
        draws: dropout, if any.
        number: the text's in its batch, which dropout is drawn by.
        xp: numpy or torch; weights are its arrays.
    """
    x = weights["transformer/wte/embedding"][ids]
    prefix = 0
    if "prompt/embedding" in weights:
        prefix = len(weights["prompt/embedding"])
        x = xp.concatenate([weights["prompt/embedding"], x])
    position = np.arange(len(x))
    text = np.where(position < prefix, np.uint32(PROMPT), np.uint32(number))
    before = weights.get("prompt/keys_values", xp.zeros((0, config.n_layer, 2, config.n_embd), dtype=xp.float64))
    position = position + len(before)
    width = np.arange(config.n_embd)

    def drop(y: Any, depth: int, site: int, units: np.ndarray = width) -> Any:
        return y if draws is None else y * xp.asarray(draws.scale(depth, site, text, position, units))

    x = drop(x + weights["transformer/wpe/embedding"][position], 0, 0)
    for layer in range(config.n_layer):
        at, depth = f"transformer/h/{layer}/", layer + 1

        def linear(h: Any, name: str, at: str = at, depth: int = depth) -> Any:
            site, units = LORA + PRODUCTS.index(name), np.arange(h.shape[-1])
            return _linear(h, lambda: drop(h, depth, site, units), weights, at + name, xp)

        h = _norm(x, weights, at + "ln_1", config, xp)
        x = x + drop(_attention(h, before[:, layer], linear, config, layer, drop, xp), depth, 2)
        h = linear(_norm(x, weights, at + "ln_2", config, xp), "mlp/c_fc")
        x = x + drop(linear(_gelu(h, xp), "mlp/c_proj"), depth, 3)
    return _norm(x, weights, "transformer/ln_f", config, xp)[-1] @ weights["score/kernel"]


def _attention(x: Any, before: Any, linear: Any, config: Any, layer: int, drop: Any, xp: Any) -> Any:
    tokens, heads, width = len(x), config.n_head, config.n_embd
    qkv = linear(x, "attn/c_attn")
    q, k, v = (qkv[:, i : i + width] for i in range(0, 3 * width, width))
    k, v = xp.concatenate([before[:, 0], k]), xp.concatenate([before[:, 1], v])
    q, k, v = (xp.reshape(part, (len(part), heads, -1)) for part in (q, k, v))
    scores = xp.einsum("qhd,khd->qhk", q, k) / math.sqrt(width // heads)
    scores = xp.where(xp.asarray(np.tri(tokens, len(k), len(before), dtype=bool)[:, None]), scores, -np.inf)
    powers = xp.exp(scores - xp.amax(scores, -1, keepdims=True))
    share = powers / powers.sum(-1, keepdims=True)
    share = drop(share, layer + 1, 1, np.arange(heads)[:, None] * 2**16 + np.arange(len(k)))
    return linear(xp.reshape(xp.einsum("qhk,khd->qhd", share, v), (tokens, -1)), "attn/c_proj")


def _linear(x: Any, thinned: Any, weights: Any, at: str, xp: Any) -> Any:
    """A linear layer with what is added: scales, a low-rank update of what `thinned` gives, a bottleneck behind it."""
    scales = weights.get(at + "/ia3_l", 1.0)
    inward = at.endswith("mlp/c_proj")
    y = (x * scales if inward else x) @ weights[at + "/kernel"] + weights[at + "/bias"]
    y = y if inward else y * scales
    if at + "/lora_a" in weights:
        y = y + thinned() @ weights[at + "/lora_a"] @ weights[at + "/lora_b"]
    if at + "/adapter_down/kernel" in weights:
        h = y @ weights[at + "/adapter_down/kernel"] + weights[at + "/adapter_down/bias"]
        y = y + _gelu(h, xp) @ weights[at + "/adapter_up/kernel"] + weights[at + "/adapter_up/bias"]
    return y


def _gelu(h: Any, xp: Any) -> Any:
    return 0.5 * h * (1 + xp.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))


def _norm(x: Any, weights: Any, at: str, config: Any, xp: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    deviation = xp.sqrt((centred**2).mean(-1, keepdims=True) + config.layer_norm_epsilon)
    return centred / deviation * weights[at + "/scale"] + weights[at + "/bias"]
