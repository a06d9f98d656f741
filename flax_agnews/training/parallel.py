"""The same step over all local devices, by jit over a mesh or by pmap: weights replicated, batches dealt."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from flax_agnews.config import ParallelConfig
from flax_agnews.errors import UserError
from flax_agnews.training.step import AXIS

_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def keep_compilations(folder: Path) -> None:
    """Keeps what XLA compiles in a folder, for later processes, unless JAX was told of another place."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def compute_deterministically() -> None:
    """Has XLA compile for GPUs only what gives the same bits every time, chosen without autotuning.

    To be called before a device is used. What it costs depends on the model: kernels that add in no fixed order are
    often the fastest, and the fastest of several is otherwise found by trying.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if _DETERMINISTIC not in flags.split():
        os.environ["XLA_FLAGS"] = f"{flags} {_DETERMINISTIC}".strip()


@dataclass(frozen=True)
class Devices:
    """Devices that share every batch.

    Attributes:
        mode: how a step is compiled for them.
        devices: in the order in which shards are dealt.
    """

    mode: Literal["jit", "pmap"]
    devices: Sequence[Any]

    @classmethod
    def of(cls, config: ParallelConfig) -> "Devices":
        """The first `parallel.devices` local devices, or all."""
        local = jax.local_devices()
        if config.devices is not None and config.devices > len(local):
            raise UserError(f"--parallel.devices {config.devices}: there are {len(local)} here")
        return cls(config.mode, tuple(local[: config.devices]))

    def __len__(self) -> int:
        return len(self.devices)

    @cached_property
    def mesh(self) -> Mesh:
        """One axis of all devices."""
        return Mesh(np.array(self.devices), (AXIS,))

    def compile(self, function: Callable[..., Any], *examples: Any, donate: bool) -> Callable[..., Any]:
        """Compiles (state, frozen, batch) -> tree of replicated values, ahead of time.

        Args:
            function: as one device sees it; may use collectives over `AXIS`.
            examples: placed arguments (by `state`, `shared`, `batch`); only their shapes count.
            donate: whether the state's memory is given to the result.
        """
        donated = (0,) if donate else ()
        if self.mode == "pmap":
            mapped = jax.pmap(
                function, AXIS, in_axes=(0, None, 0), out_axes=0, devices=self.devices, donate_argnums=donated
            )
            return mapped.lower(*examples).compile()

        def one_device(state: Any, frozen: Any, batch: Any) -> Any:
            return function(state, frozen, jax.tree.map(lambda x: x[0], batch))

        mapped = jax.shard_map(one_device, mesh=self.mesh, in_specs=(P(), P(), P(AXIS)), out_specs=P(), check_vma=False)
        return jax.jit(mapped, donate_argnums=donated).lower(*examples).compile()

    def shared(self, tree: Any) -> Any:
        """Weights that no step changes: the same on every device, put there once."""
        return jax.device_put(tree, NamedSharding(self.mesh, P()))

    def state(self, tree: Any) -> Any:
        """What steps change: on every device; under pmap with a leading axis of devices."""
        if self.mode == "jit":
            return self.shared(tree)
        stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(self), *jnp.shape(x))), tree)
        return jax.device_put(stacked, NamedSharding(self.mesh, P(AXIS)))

    def batch(self, tree: Any) -> Any:
        """A batch with a leading axis of devices, dealt to them."""
        return jax.device_put(tree, NamedSharding(self.mesh, P(AXIS)))

    def first(self, tree: Any) -> Any:
        """A result without pmap's leading axis: one device's copy."""
        return tree if self.mode == "jit" else jax.tree.map(lambda x: x[0], tree)
