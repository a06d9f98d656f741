"""Counts the floating-point operations that a training step needs: matrix products of real tokens, each once."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from flax_agnews.models.gpt2 import GPT2Config


@dataclass(frozen=True)
class Needed:
    """The parts of a training step that a strategy needs.

    Attributes:
        first: lowest layer that is computed; the output of those below is cached.
        gradient: lowest layer whose tokens get a gradient; the number of layers where none does.
        weights: lowest layer whose kernels train; the number of layers where none does.
        prompt: soft prompt tokens, the same for all texts: they go through the layers once.
    """

    first: int
    gradient: int
    weights: int
    prompt: int = 0

    @classmethod
    def of(cls, trainable: Collection[str], shapes: Mapping[str, tuple[int, ...]], layers: int, first: int) -> "Needed":
        """Derives the parts from the paths of the trained parameters.

        Args:
            trainable: paths of the trained parameters.
            shapes: path -> shape of every parameter.
            layers: number of layers.
            first: lowest layer that is computed.
        """

        def lowest(end: str) -> int:
            inside = [path for path in trainable if path.startswith("transformer/h/") and path.endswith(end)]
            return min((int(path.split("/")[2]) for path in inside), default=layers)

        below = any(path.startswith(("transformer/wte/", "transformer/wpe/", "prompt/")) for path in trainable)
        prompt = shapes.get("prompt/embedding", (0,))[0]
        return cls(first, gradient=0 if below else lowest(""), weights=lowest("/kernel"), prompt=prompt)


def step_flops(body: GPT2Config, classes: int, lengths: np.ndarray, needed: Needed) -> float:
    """Floating-point operations of the matrix products of a step: forward, to activations, to weights.

    A multiplication with an addition counts as two. Causal attention counts only the keys that a query sees. The last
    layer has all keys and values, but one query and one MLP row per text. A soft prompt goes through the layers once.
    Not counted are norms, activations, softmax, the optimizer, and anything that need not be computed.

    Args:
        body: the model.
        classes: number of classes of the head.
        lengths: [texts] number of real tokens of each text in the batch.
        needed: the parts that the strategy needs.
    """
    width, layers, prompt = body.n_embd, body.n_layer, needed.prompt
    tokens, texts = float(lengths.sum()), len(lengths)
    seen = float((lengths * (lengths + 1) / 2).sum())  # (query, key) pairs within texts
    head = 2.0 * width * classes * texts
    total = head * (3 if needed.gradient < layers else 2)
    for layer in range(needed.first, layers):
        last = layer == layers - 1
        queries = texts if last else tokens
        inward = 2.0 * width**2 * (2 * tokens + queries)  # keys, values; queries
        linear = inward + 2.0 * (width**2 + 2 * width * body.inner) * queries
        before = queries * prompt  # pairs of a query and the prompt
        pairs = before + (tokens if last else seen)
        own = 2.0 * prompt * (2 * width**2 if last else 4 * width**2 + 2 * width * body.inner)
        own_pairs = 0.0 if last else prompt * (prompt + 1) / 2
        total += linear + own + 4 * width * (pairs + own_pairs)
        if layer >= needed.gradient:
            total += linear + own + 8 * width * (pairs + own_pairs)
            if prompt and layer == 0:  # only the prompt's keys and values depend on the prompt here
                total -= inward + 8 * width * pairs - (2 * pairs + 4 * before) * width
        if layer >= needed.weights:
            total += linear + own
    return total
