"""The frozen lower part of a body, and what it makes of texts."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax import Array

from flax_agnews import __version__
from flax_agnews.data.batches import PADDING, Batch, EvalBatches
from flax_agnews.data.shapes import BLOCK, Shape
from flax_agnews.data.tokens import Ragged
from flax_agnews.models import parameters
from flax_agnews.models.forward_pass import BatchPass
from flax_agnews.models.gpt2 import GPT2
from flax_agnews.models.parameters import Frame, Parameters
from flax_agnews.models.pretrained import BODY, Base
from flax_agnews.models.rows import Way
from flax_agnews.models.token_layout import Layout
from flax_agnews.training.parallel import Devices
from flax_agnews.training.step import AXIS


@dataclass(frozen=True)
class Trunk:
    """The frozen lower part of a body.

    Attributes:
        base: the body.
        depth: layers.
        dtype: of matrix products.
        attention: how tokens attend.
    """

    base: Base
    depth: int
    dtype: Any
    attention: Way = "blocks"

    @property
    def pooled(self) -> bool:
        """Whether these are all layers, after which only each text's last token counts."""
        return self.depth == self.base.config.n_layer

    @cached_property
    def frame(self) -> Frame[GPT2]:
        """The part alone (and a final layer norm, which it doesn't use)."""
        config = replace(self.base.config, n_layer=self.depth)
        return parameters.abstract(lambda: GPT2(config, jax.random.key(0)))

    def weights(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The part's leaves out of a body's, under its own paths."""
        return {path: body[BODY + path] for path in self.frame.shapes}

    @cached_property
    def hash(self) -> str:
        """SHA-256 of all that decides its output for a text, on this machine."""
        device = jax.local_devices()[0]
        facts = {
            "weights": parameters.content_hash(self.weights(self.base.parameters)),
            "config": asdict(self.base.config),
            "dtype": str(self.dtype),
            "depth": self.depth,
            "attention": self.attention,
            "program": [__version__, jax.__version__, BLOCK, device.platform, device.device_kind],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def key(self, texts: Ragged, dtype: Any) -> str:
        """The name of its output for these texts, kept in `dtype`."""
        digest = hashlib.sha256(f"{self.hash} {dtype}".encode())
        for array in (texts.offsets, texts.ids):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def shape(self, texts: Ragged) -> tuple[int, int]:
        """Of its output: [tokens, embd], or [texts, embd] where pooled."""
        return len(texts) if self.pooled else len(texts.ids), self.base.config.n_embd

    def through(self, texts: Ragged, output: np.ndarray) -> Ragged:
        """The texts as the layers above read them."""
        offsets = np.arange(len(texts) + 1) if self.pooled else texts.offsets
        return Ragged(output, offsets, texts.truncated, self.depth)

    def step(self, dtype: Any) -> Callable[..., Array]:
        """A function (nothing, weights, batch) -> [devices, micro_batches, tokens or slots, embd], under `AXIS`."""

        def one(body: GPT2, batch: Batch) -> Array:
            forward = BatchPass.of(Layout.of(batch, 0, self.attention), dtype=self.dtype)
            x = body.embed(body.wte(batch.ids), forward.place, None)
            x = body.layers(x, forward, end=self.depth - self.pooled)
            x = body.h[-1].last(x, forward) if self.pooled else x
            return x.astype(dtype)

        def step(nothing: tuple[()], weights: Parameters, batch: Batch) -> Array:
            body = self.frame.merge(weights)
            return jax.lax.all_gather(jax.lax.map(lambda micro: one(body, micro), batch), AXIS)

        return step


def compute(
    trunk: Trunk,
    weights: Parameters,
    batches: EvalBatches,
    devices: Devices,
    out: np.ndarray,
    after: Callable[[int], None],
) -> None:
    """The trunk's output for every text of a split, into `out`; `after` is told each batch's tokens."""
    step, compiled, texts = trunk.step(out.dtype), dict[Shape, Any](), batches.data
    for rows, shape, batch in batches:
        placed = devices.batch(batch)
        if shape not in compiled:
            compiled[shape] = devices.compile(step, (), weights, placed, donate=False)
        result = np.asarray(devices.first(compiled[shape]((), weights, placed)))
        if trunk.pooled:
            used = batch.weight > 0
            out[rows[batch.number[used]]] = result[used]
        else:
            used = batch.text != PADDING
            number = np.take_along_axis(batch.number, np.where(used, batch.text, 0), axis=-1)
            out[(texts.offsets[rows[number]] + batch.position)[used]] = result[used]
        after(int(texts.lengths[rows].sum()))
