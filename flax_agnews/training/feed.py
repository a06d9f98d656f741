"""Brings batches to the devices: from the host, or cached output of frozen layers from a copy that stays on a device.

A step on that output needs 3 KB a token (GPT-2, float32). A GPU trains on it faster than a host collects it from its
memory, so that where there is room all of it is copied once, and the host sends row numbers.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped

from flax_agnews.data.batches import PADDING, Batch, EvalBatches, TrainBatches
from flax_agnews.training.memory import free_bytes
from flax_agnews.training.parallel import Devices

T = TypeVar("T")
B = TypeVar("B", TrainBatches, EvalBatches)

_PART = 1 << 26  # bytes copied to a device at once: a copy of its own may be made of them on the way


def stays_on_device(platform: str, devices: int, mode: str, size: int, free: int | None) -> bool:
    """Whether an array that batches are collected from is copied to the device that trains.

    Args:
        platform: kind of device: cpu, gpu or tpu. A CPU has it in its memory anyway.
        devices: number of devices that train; several would each need a copy.
        mode: `parallel.mode`; pmap is for several devices.
        size: size of the array in bytes. Half of what is free is left to training.
        free: free memory of the device in bytes; None if unknown.
    """
    return platform != "cpu" and devices == 1 and mode == "jit" and free is not None and 2 * size <= free


@dataclass(frozen=True)
class Feed(Generic[B]):
    """Batches of a split, and how they get to the devices.

    Attributes:
        batches: the batches; with a table, their `ids` are row numbers of it.
        devices: the devices that share every batch.
        table: [places, width] cached output of frozen layers, on the device; None if the batches have it, or token ids.
    """

    batches: B
    devices: Devices
    table: Array | None = None

    @classmethod
    def of(cls, batches: B, devices: Devices) -> "Feed[B]":
        """The batches as they are, or with what they read on the device, where that is cached output and has room."""
        values = batches.data.ids
        free = free_bytes(devices.here[0])
        if not batches.data.depth or not stays_on_device(
            devices.platform, len(devices), devices.mode, values.nbytes, free
        ):
            return cls(batches, devices)
        numbered = copy.copy(batches)
        numbered.data = replace(batches.data, ids=np.arange(len(values), dtype=np.int32))
        return cls(numbered, devices, copied(values, devices))

    def place(self, batch: Batch) -> Batch:
        """The batch on the devices, with the same bytes from either source."""
        placed = self.devices.batch(batch)
        if self.table is None:
            return placed
        return replace(placed, ids=self._collect(self.table, placed.ids, placed.text))

    @cached_property
    def _collect(self) -> Any:
        # A program of its own, so that those which compute with the rows are the same, to the last digit.
        place = self.devices.like_batch(jax.ShapeDtypeStruct((1,), jnp.int32)).sharding
        return jax.jit(collect, out_shardings=place)


def collect(
    table: Shaped[Array, "places width"], rows: Int[Array, "*axes tokens"], text: Int[Array, "*axes tokens"]
) -> Shaped[Array, "*axes tokens width"]:
    """Rows of a table, and zeros for padding tokens.

    Args:
        table: cached output of frozen layers.
        rows: its row for each token.
        text: as in `Batch`.
    """
    found = table.at[rows].get(mode="promise_in_bounds")
    return jnp.where((text == PADDING)[..., None], jnp.zeros((), table.dtype), found)


def copied(values: Shaped[np.ndarray, "places width"], devices: Devices) -> Shaped[Array, "places width"]:
    """Copies an array, which may be a memory-mapped file, to the devices in parts."""
    rows = max(1, _PART // max(1, values[:1].nbytes))
    like = devices.like_shared(values)
    table = jnp.zeros(like.shape, like.dtype, device=like.sharding)
    for start in range(0, len(values), rows):
        part = devices.shared(np.ascontiguousarray(values[start : start + rows]))
        table = jax.block_until_ready(_written(table, part, np.int32(start)))
    return table


@partial(jax.jit, donate_argnums=0)
def _written(table: Array, part: Array, start: Array) -> Array:
    return jax.lax.dynamic_update_slice(table, part, (start, 0))


def one_late(results: Iterable[T]) -> Iterator[T]:
    """The same results, each after the next one was begun: a device computes that one while the host reads this one.

    Args:
        results: iterator that begins a computation on a device at each step, and doesn't wait for it.
    """
    waiting: list[T] = []
    for result in results:
        waiting.append(result)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting
