"""Finds the frozen lower layers of a body, and computes their output for texts once."""

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from flax_agnews import __version__
from flax_agnews.data.batches import Batch, EvalBatches
from flax_agnews.data.shapes import BLOCK, Shape
from flax_agnews.data.tokens import Ragged
from flax_agnews.models import parameters
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.compute import Compute
from flax_agnews.models.forward_pass import BodyPass
from flax_agnews.models.gpt2 import GPT2
from flax_agnews.models.parameters import Frame, Parameters, hollow
from flax_agnews.models.precision import rounding
from flax_agnews.models.pretrained import BODY, Base, plain_frame
from flax_agnews.models.token_layout import Layout
from flax_agnews.training.adapted_model import AdaptedModel, unshared
from flax_agnews.training.feed import one_late
from flax_agnews.training.parallel import Devices
from flax_agnews.training.state import Setup
from flax_agnews.training.step import AXIS


def frozen_depth(setup: Setup, shared: Mapping[str, Array] | None = None) -> int:
    """Number of leading layers whose output for a text is the same in every step of every run.

    In these layers, and in the embeddings, nothing trains, has dropout, was added or was changed; 0 if the strategy
    puts a prompt or prefix before texts.

    Args:
        setup: the adapted model and how it trains.
        shared: the body's weights, as for `create_state`; without them, values that the strategy changes go unnoticed.
    """
    model, rates = setup.model, setup.rates
    base, classifier = model.base, hollow(model.frame)
    known = (*base.parameters, "transformer/h/", "score/")
    if type(classifier) is not ClassifierModule or type(classifier.transformer) is not GPT2:
        return 0
    if not all(path.startswith(known) for path in model.shapes):
        return 0
    ours = classifier.transformer
    plain = hollow(plain_frame(base.config, model.classes)).transformer
    moved = setup.trainable | setup.ever | (unshared(model, shared) if shared else frozenset())

    def fixed(depth: int, path: str, part: nnx.Module, before: nnx.Module) -> bool:
        stays = not any(p.startswith(f"transformer/{path}/") for p in moved)
        noise = rates.noisy[depth] and any((rates.attn, rates.resid) if depth else (rates.embd,))
        return stays and not noise and nnx.graphdef(part) == nnx.graphdef(before)

    embedded = fixed(0, "wte", ours.wte, plain.wte) and fixed(0, "wpe", ours.wpe, plain.wpe)
    if not embedded or len(ours.h) != len(plain.h):
        return 0
    layers = (fixed(i + 1, f"h/{i}", *pair) for i, pair in enumerate(zip(ours.h, plain.h, strict=True)))
    return sum(itertools.takewhile(bool, layers))


@dataclass(frozen=True)
class Trunk:
    """The frozen lower layers of a body.

    Attributes:
        base: the body.
        depth: number of layers.
        compute: types of matrix products, and implementation of attention.
    """

    base: Base
    depth: int
    compute: Compute

    @classmethod
    def of(cls, model: AdaptedModel, depth: int) -> "Trunk":
        """The lower `depth` layers of an adapted model's body."""
        return cls(model.base, depth, model.compute)

    @property
    def pooled(self) -> bool:
        """Whether the trunk has all layers; its output is then only that of each text's last token."""
        return self.depth == self.base.config.n_layer

    @cached_property
    def frame(self) -> Frame[GPT2]:
        """The module of these layers alone (and a final layer norm, which isn't used)."""
        config = replace(self.base.config, n_layer=self.depth)
        return parameters.abstract(lambda: GPT2(config, jax.random.key(0)))

    def weights(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """These layers' parameters from those of a body, by their paths in `frame`."""
        return {path: body[BODY + path] for path in self.frame.shapes}

    @cached_property
    def hash(self) -> str:
        """SHA-256 of everything that determines the output for a text on this machine."""
        device, compute = jax.local_devices()[0], self.compute
        facts = {
            "weights": parameters.content_hash(self.weights(self.base.parameters)),
            "config": asdict(self.base.config),
            "dtype": str(compute.dtype),
            "depth": self.depth,
            "attention": compute.attention,
            "program": [__version__, jax.__version__, BLOCK, device.platform, device.device_kind],
        }
        if compute.precision != "default":  # else the hash is that of versions before there was a choice
            facts["precision"] = compute.precision
        if compute.results != jnp.float32:  # likewise
            facts["results"] = str(compute.results)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def key(self, texts: Ragged, dtype: Any) -> str:
        """The cache key of the output for these texts, stored in `dtype`."""
        digest = hashlib.sha256(f"{self.hash} {dtype}".encode())
        for array in (texts.offsets, texts.ids):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def shape(self, texts: Ragged) -> tuple[int, int]:
        """The output's shape: [tokens, width], or [texts, width] where pooled."""
        return len(texts) if self.pooled else len(texts.ids), self.base.config.n_embd

    def through(self, texts: Ragged, output: Float[np.ndarray, "places width"]) -> Ragged:
        """The texts with the trunk's output instead of token ids; a place is a token, or a text if pooled."""
        offsets = np.arange(len(texts) + 1) if self.pooled else texts.offsets
        return Ragged(output, offsets, texts.truncated, self.depth)

    def step(self, dtype: Any) -> Callable[..., Float[Array, "devices micro places width"]]:
        """Makes a function ((), weights, batch) -> output in `dtype`, to run under a mapped axis called `AXIS`.

        A place is a token, or a slot of a text if pooled.
        """

        def one(body: GPT2, batch: Batch) -> Float[Array, "places width"]:
            forward = BodyPass(Layout.of(batch, 0, self.compute), compute=self.compute)
            x = body.embed(body.wte(batch.ids), forward.layout.place, None)
            x = body.layers(x, forward, end=self.depth - self.pooled)
            x = body.h[-1].last(x, forward.layer(len(body.h) - 1)) if self.pooled else x
            return x.astype(dtype)

        def step(nothing: tuple[()], weights: Parameters, batch: Batch) -> Float[Array, "devices micro places width"]:
            body = self.frame.merge(weights)
            with rounding(self.compute.precision):
                return jax.lax.all_gather(jax.lax.map(lambda micro: one(body, micro), batch), AXIS)

        return step


def compute(
    trunk: Trunk,
    weights: Parameters,
    batches: EvalBatches,
    devices: Devices,
    out: Float[np.ndarray, "places width"],
    after: Callable[[int], None],
) -> None:
    """Computes a trunk's output for every text of a split.

    Args:
        trunk: the frozen layers.
        weights: their parameters on the devices (`trunk.weights`).
        batches: batches with every text of the split once.
        devices: the devices that share every batch.
        out: array of `trunk.shape` to write to.
        after: called after every batch with the number of its tokens.
    """
    step, compiled, texts = trunk.step(out.dtype), dict[Shape, Any](), batches.data

    def begin(shape: Shape, batch: Batch) -> Array:
        placed = devices.batch(batch)
        if shape not in compiled:
            compiled[shape] = devices.compile(step, (), weights, placed, donate=False)
        return devices.first(compiled[shape]((), weights, placed))

    begun = ((rows, batch, begin(shape, batch)) for rows, shape, batch in batches)
    for rows, batch, output in one_late(begun):
        result = np.asarray(output)
        if trunk.pooled:
            used = batch.weight > 0
            out[rows[batch.number[used]]] = result[used]
        else:
            for slot in zip(*np.nonzero(batch.weight > 0), strict=True):  # quicker than indices
                text, end = rows[batch.number[slot]], batch.last[slot] + 1
                out[texts.offsets[text] : texts.offsets[text + 1]] = result[slot[:-1]][end - texts.lengths[text] : end]
        after(int(texts.lengths[rows].sum()))
