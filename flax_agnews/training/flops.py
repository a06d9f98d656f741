"""Counts the floating-point operations (FLOP) of training: matrix products of real tokens, each as often as needed.

Counted by parts as in Kaplan et al. 2020 (table 1, https://arxiv.org/abs/2001.08361) and Hoffmann et al. 2022
(appendix F, https://arxiv.org/abs/2203.15556). A multiplication with an addition is two, so a matrix takes 2 FLOP a
number and token forward, as many for the gradient of its input and as many for that of its weights, together the usual
6. Attention takes 4 FLOP a unit of width, query and key forward, and 8 backward. Unlike there:

- A gradient counts only where it is needed: of inputs above what trains, and of weights that train.
- Attention counts only the keys that a query sees: n (n + 1) / 2 pairs in a text of n tokens.
- The last layer has all keys and values, but one query and one row of the MLP per text, as the head reads no more.
- Token ids are looked up, and there are no logits over the vocabulary: neither is a product.

Not counted: norms, activations, softmax, the optimizer, padding, evaluation, language modelling before the runs, and
matrices that a strategy of one's own adds outside of layers and head.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from flax_agnews.data.batches import TrainBatches
from flax_agnews.models.parameters import hollow
from flax_agnews.models.pretrained import body_shapes
from flax_agnews.strategies.paths import height, in_head
from flax_agnews.training.state import Setup

_PARTS = ("ln_1/", "attn/c_attn/", "attn/c_proj/", "ln_2/", "mlp/c_fc/", "mlp/c_proj/")  # of a layer, as they compute
_QKV = _PARTS.index("attn/c_attn/")


@dataclass(frozen=True)
class Amount:
    """What updates compute: number of texts, of their tokens, of pairs of a token and one that it sees, of updates."""

    texts: float
    tokens: float
    pairs: float
    updates: float

    @classmethod
    def of(cls, lengths: Int[np.ndarray, " texts"], updates: int = 1) -> "Amount":
        """The amount of texts with these numbers of tokens, in so many updates."""
        tokens, squares = float(lengths.sum()), float((lengths.astype(float) ** 2).sum())
        return cls(len(lengths), tokens, (squares + tokens) / 2, updates)


def run_flops(setup: Setup, by_stage: Sequence[TrainBatches], lengths: Int[np.ndarray, " texts"], epochs: int) -> float:
    """FLOP of a run, of all its epochs.

    Frozen layers whose output is cached count once, in every run: the cache serves others, but a run alone needs it.

    Args:
        setup: the adapted model and how it trains.
        by_stage: the training batches of each of its stages, of cached output where that is read.
        lengths: number of tokens of each training text.
        epochs: number of epochs that the run trained for.
    """
    amount, total, depths = Amount.of(lengths, by_stage[0].steps_per_epoch), 0.0, set()
    for stage, times in Counter(map(setup.stage_of, range(epochs))).items():
        depth = by_stage[stage].data.depth
        depths.add(depth)
        total += times * training_flops(setup.stages[stage], amount, depth)
    return total + sum(frozen_flops(setup, amount, depth) for depth in depths)


def frozen_flops(setup: Setup, amount: Amount, depth: int) -> float:
    """FLOP to compute the lower `depth` layers of texts; of the last layer, only what the head reads."""
    return sum(_layer_flops(setup, layer, amount)[0] for layer in range(depth))


def training_flops(setup: Setup, amount: Amount, first: int = 0) -> float:
    """FLOP of updates, forward and backward.

    Args:
        setup: the adapted model and how it trains, in a single stage.
        amount: the texts and updates. A soft prompt goes through the layers once an update.
        first: lowest layer that is computed; the output of those below is cached.
    """
    below = not all(map(in_head, setup.learning))
    total = 0.0
    for path, shape in setup.model.shapes.items():
        if in_head(path):
            total += 2 * amount.texts * float(np.prod(shape)) * (1 + below + (path in setup.learning))
    return total + sum(sum(_layer_flops(setup, n, amount)) for n in range(first, setup.model.base.config.n_layer))


@dataclass(frozen=True)
class _Stream:
    """Tokens that go through a layer: numbers of keys (and values), of queries, and of their pairs."""

    keys: float
    queries: float
    pairs: float


def _layer_flops(setup: Setup, layer: int, amount: Amount) -> tuple[float, float]:
    """FLOP of a layer, counted from 0: (forward, backward)."""
    model, learning, body = setup.model, setup.learning, setup.model.base.config
    width, last, own = body.n_embd, layer == body.n_layer - 1, body_shapes(body)
    length, vectors = hollow(model.frame).prompt_tokens, amount.updates * model.shapes.get("prompt/embedding", (0,))[0]
    texts = _Stream(amount.tokens, *((amount.texts, amount.tokens) if last else (amount.tokens, amount.pairs)))
    prompt = _Stream(vectors, *((0, 0) if last else (vectors, vectors * (length + 1) / 2)))
    before = texts.queries * length  # pairs of a query and a key before its text
    first = min(_place(path, body.n_layer) for path in learning)
    prompted = any(path.startswith("prompt/") for path in learning)

    forward = 4 * width * (texts.pairs + before + prompt.pairs)
    backward = 8 * width * prompt.pairs * prompted
    if first <= (layer, _QKV):
        backward += 8 * width * (texts.pairs + before)
    elif prompted and layer == 0:  # tokens' queries, keys and values need no gradient, those before the texts do
        backward += width * (2 * texts.pairs + 6 * before)
    for path, shape in model.shapes.items():
        if path.startswith(f"transformer/h/{layer}/") and len(shape) == 2:
            place = _place(path, body.n_layer)
            above = place > first or (place == first and path not in own)  # an added matrix may follow another
            for stream, reached in ((texts, above), (prompt, prompted)):
                product = 2 * np.prod(shape) * _rows(stream, place, shape, width)
                forward += product
                backward += product * (reached + (path in learning))
    return float(forward), float(backward)


def _place(path: str, layers: int) -> tuple[int, float]:
    """Where a parameter stands in the computation for texts: layer, -1 for embeddings, and part of `_PARTS`."""
    if path.startswith("prompt/"):
        return 0, _QKV + 0.5  # whose keys the first layer's queries see
    inside = path.split("/", 3)[-1]
    return height(path, layers) - 1, next((i for i, part in enumerate(_PARTS) if inside.startswith(part)), -1)


def _rows(stream: _Stream, place: tuple[int, float], shape: tuple[int, ...], width: int) -> float:
    """Number of tokens by which a matrix of this place and shape is multiplied."""
    if place[1] != _QKV:
        return stream.queries
    return (2 * stream.keys + stream.queries) / 3 if shape[1] == 3 * width else stream.keys
