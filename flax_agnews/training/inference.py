"""Computes the logits of any texts with a trained model, by steps compiled for a few shapes.

In a batch, texts begin a fixed stride apart, which depends on their own length, and attend separately. So the logits of
a text don't depend on the other texts or their number: bit for bit on devices whose matrix products give a row the same
result wherever it is, as XLA's on a CPU do.
"""

import jax
import numpy as np
from jaxtyping import Float, Int

from flax_agnews.data.batches import PADDING, Batch
from flax_agnews.data.shapes import LEVELS
from flax_agnews.data.tokens import Ragged
from flax_agnews.models.parameters import Parameters
from flax_agnews.training.adapted_model import AdaptedModel
from flax_agnews.training.compiler import Compiler
from flax_agnews.training.evaluator import Evaluator
from flax_agnews.training.parallel import Devices

TOKENS = {"cpu": 256}
"""Tokens per batch, by platform. Few, since the last batch of each stride is seldom full; larger ones are hardly faster
on a CPU (2 cores, 124M: 256 is as fast as 512 and 1024)."""

_TOKENS_ELSEWHERE = 16384


def stride_of(lengths: Int[np.ndarray, "texts"]) -> Int[np.ndarray, "texts"]:
    """Stride in tokens for texts of these lengths: a multiple of 8, or of an eighth of the next power of two."""
    step = np.maximum(8, 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(int) // 8)
    return -(-lengths // step) * step


class Inference:
    """Computes logits of texts; a step is compiled when its stride first occurs.

    Args:
        model: the adapted model.
        params: path -> array of the trained parameters.
        frozen: path -> array of the other parameters.

    Attributes:
        model: as given.
        evaluator: the compiled steps, by stride.
    """

    def __init__(self, model: AdaptedModel, params: Parameters, frozen: Parameters) -> None:
        self.model = model
        self.evaluator = Evaluator(model, Compiler(Devices("jit", tuple(jax.local_devices()[:1]))))
        self._weights = self.evaluator.weights({**frozen, **params})

    def logits(self, tokens: Ragged) -> Float[np.ndarray, "texts classes"]:
        """Logits of each text, in the order of `tokens`."""
        out = np.zeros((len(tokens), self.model.classes), np.float32)
        strides, most = stride_of(tokens.lengths), TOKENS.get(jax.default_backend(), _TOKENS_ELSEWHERE)
        for stride in np.unique(strides).tolist():
            rows, slots = np.flatnonzero(strides == stride), max(1, most // stride)
            for start in range(0, len(rows), slots):
                part = rows[start : start + slots]
                out[part] = self._run(_apart(tokens, part, stride, slots))[: len(part)]
        return out

    def _run(self, batch: Batch) -> Float[np.ndarray, "slots classes"]:
        """Logits of one batch."""
        placed = jax.tree.map(lambda x: x[None, None], batch)
        self.evaluator.compile(batch.stride, placed)
        return np.asarray(self.evaluator.logits(self._weights, batch.stride, placed))[0, 0]


def _apart(tokens: Ragged, rows: Int[np.ndarray, "texts"], stride: int, slots: int) -> Batch:
    """Makes a batch for one device of the texts `rows`, which begin `stride` tokens apart."""
    lengths = tokens.lengths[rows]
    slot = np.repeat(np.arange(len(rows)), lengths)
    position = np.arange(len(slot)) - (np.cumsum(lengths) - lengths)[slot]
    place = slot * stride + position
    batch = Batch(
        ids=np.zeros(slots * stride, np.int32),
        text=np.full(slots * stride, PADDING, np.int32),
        position=np.zeros(slots * stride, np.int32),
        last=np.arange(slots, dtype=np.int32) * stride,
        number=np.arange(slots, dtype=np.int32),
        label=np.zeros(slots, np.int32),
        weight=np.zeros(slots, np.float32),
        reach=(0,) * len(LEVELS),
        stride=stride,
    )
    batch.ids[place] = tokens.ids[tokens.offsets[rows][slot] + position]
    batch.text[place], batch.position[place] = slot, position
    batch.last[: len(rows)] += (lengths - 1).astype(np.int32)
    batch.weight[: len(rows)] = 1
    return batch
