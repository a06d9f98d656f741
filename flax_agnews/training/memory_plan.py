"""Estimates, before anything is computed, the memory that a run takes on each of its devices.

Counted are the body, the run's weights, gradients and optimizer state, and what a step keeps of its largest batch for
the backward pass. What a layer keeps is counted from the code of `models/`; what the layer that is being computed holds
beside that was fitted to `memory_analysis()` of compiled gradient steps (JAX 0.10.2 on a CPU, 3 to 5 layers of widths
256 and 768; `tests/training/test_memory_plan.py` compares). A GPU's compiler may need less or more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.shapes import BLOCK, LEVELS, Shape
from flax_agnews.models.parameters import count_numbers
from flax_agnews.models.pretrained import body_shapes
from flax_agnews.strategies.paths import height, in_head
from flax_agnews.system.machine import machine_memory
from flax_agnews.training.state import Setup

_BACKWARD = 9
"""Arrays of the residual stream's size that the backward pass of a layer holds beside what is kept. Fitted."""

_FORWARD = (4.0, 2.65, 0.9)
"""What the forward pass of a layer holds: arrays of the sizes of the residual stream, of the windows of keys, and of
the attention weights. Fitted."""


@dataclass(frozen=True)
class RunMemory:
    """Bytes that a run takes on each of its devices.

    Attributes:
        body: the body's weights, which all runs on the device share, with its kernels in the compute type.
        state: the trained weights, their kernels in the compute type, and the optimizer's state.
        gradients: the gradients; twice where micro-batches are summed.
        activations: the batch, what a step keeps of it for the backward pass, and the largest intermediate results.
    """

    body: int
    state: int
    gradients: int
    activations: int

    @property
    def total(self) -> int:
        """All bytes."""
        return self.body + self.state + self.gradients + self.activations


def estimated_memory(setup: Setup, by_stage: Sequence[TrainBatches], together: int = 1, split: int = 1) -> RunMemory:
    """Estimates the memory that a run takes on each of its devices.

    Args:
        setup: the adapted model and how it trains.
        by_stage: the training batches of each stage; a shape is that of one device's part.
        together: number of runs (seeds) that train side by side.
        split: number of devices over which trained weights, gradients and the optimizer's state are divided; 1 where
            each has all of them.
    """
    model, own = setup.model, setup.trainable_shapes
    body = body_shapes(model.base.config)
    narrow = 0 if model.compute.dtype == jnp.float32 else jnp.dtype(model.compute.dtype).itemsize
    frozen = {path: shape for path, shape in model.shapes.items() if path not in own}
    added = {path: shape for path, shape in frozen.items() if path not in body}
    trained = 4 * count_numbers(own)
    micro = max(shape.micro_batches for batches in by_stage for shape in batches.shapes)
    kept = max(
        activation_bytes(stage, shape, batches.data.depth)
        for stage, batches in zip(setup.stages, by_stage, strict=True)
        for shape in batches.shapes
    )
    state = trained + setup.optimizer_bytes
    return RunMemory(
        body=4 * count_numbers(body) + narrow * count_numbers(_kernels(frozen)),
        state=together * (4 * count_numbers(added) + state // split + narrow * count_numbers(_kernels(own))),
        gradients=together * (1 + (micro > 1)) * trained // split,
        activations=together * kept,
    )


def _kernels(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {path: shape for path, shape in shapes.items() if path.endswith("/kernel")}


def activation_bytes(setup: Setup, shape: Shape, depth: int = 0) -> int:
    """Estimates what the gradient of a batch takes beside weights and gradients, in bytes.

    A layer through which a gradient passes keeps, for each token, the residual stream twice, the query and the MLP's
    inner products; the input of each matrix that trains, from which its gradient is made; the keys and values that
    its block looks at; and its attention weights before and after dropout. The last layer keeps keys and values of all
    tokens, and all else of the pooled ones. Layers below what trains keep nothing. Where a batch is several
    micro-batches, the first and the loop over the others have memory of their own (so measured).

    Args:
        setup: the adapted model and how it trains, in a single stage.
        shape: the batch's shape on one device.
        depth: number of layers whose output is cached, and read instead of token ids.
    """
    model, config, tokens = setup.model, setup.model.base.config, shape.tokens
    layers, width, dtype = config.n_layer, config.n_embd, jnp.dtype(model.compute.dtype).itemsize
    batch, stream = shape.micro_batches * tokens * width * 4 if depth else 0, 4 * tokens * width
    if depth == layers:
        return batch
    results = jnp.dtype(model.compute.results).itemsize
    windows, weights = _seen(shape) * width, _seen(shape) * BLOCK * config.n_head
    kept, first = 0, max(_lowest(setup), depth)
    for layer in range(first, layers - 1):
        kept += 2 * stream + tokens * (width * dtype + config.inner * results + _operands(setup, layer) * dtype)
        kept += 2 * windows * dtype + weights * (4 + 2 * dtype)
    pooled = 0 if model.compute.last_in_rows else 2 * tokens * shape.slots * config.n_head * 4
    top = max(4 * stream + pooled, _BACKWARD * stream if first < layers - 1 else 0)
    streams, copies, arrays = _FORWARD
    forward = streams * stream + copies * windows * dtype + arrays * weights * 4 if depth < layers - 1 else 0
    return batch + (1 + (shape.micro_batches > 1)) * int(max(kept + top, forward))


def _seen(shape: Shape) -> int:
    """Sum over tokens of the number of blocks that they look at: their own, and the earlier ones of their level."""
    return BLOCK * (shape.reach[0] + int(np.dot(np.diff((0, *LEVELS)), shape.reach)))


def _lowest(setup: Setup) -> int:
    """The lowest layer through which a gradient goes back, from 0; the number of layers where only the head trains."""
    layers = setup.model.base.config.n_layer
    own = {path for path in setup.learning if not in_head(path) and not path.startswith("transformer/ln_f/")}
    inner = [height(path, layers) for path in own]
    return min((0 if place > layers else max(0, place - 1) for place in inner), default=layers)


def _operands(setup: Setup, layer: int) -> int:
    """Sum of the inputs of a layer's matrices that train; those with equal place and width are the same array."""
    prefix = f"transformer/h/{layer}/"
    return sum(
        shape[0]
        for path, shape in setup.model.shapes.items()
        if path in setup.learning and path.startswith(prefix) and len(shape) == 2
    )


def memory_limit(device: Any, sharing: int = 1) -> int | None:
    """Bytes that programs may use on a device: what it says itself, or the machine's memory for a CPU; None if unknown.

    Args:
        device: a JAX device.
        sharing: number of such devices that have the machine's memory in common, where it is a CPU.
    """
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    return machine_memory() // sharing if device.platform == "cpu" else None
