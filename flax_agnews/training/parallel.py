"""Data parallelism: a step on all devices, by jit over a mesh or by pmap, with split batches.

Weights are replicated, or with `parallel.fsdp` split too (`sharding`).

The devices may belong to several processes (`Team`). Each process then has all batches and weights on its host, and
places the parts of its own devices.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from flax_agnews.config import ParallelConfig
from flax_agnews.errors import UserError, flag
from flax_agnews.training.processes import SingleProcess, Team, current_team
from flax_agnews.training.sharding import placed_shape, split_places
from flax_agnews.training.state import TrainState
from flax_agnews.training.step import AXIS


def compiler_options(platform: str) -> dict[str, bool]:
    """Options of XLA's compiler for a kind of device.

    Elsewhere than on a CPU, rounding to bfloat16 is never left out: where XLA may keep more precision than asked for,
    it writes the float32 numbers before the rounding to memory, and a training step moves 7 % more bytes (counted as
    `benchmarks.gpu_traffic` does).

    Args:
        platform: cpu, gpu or tpu.
    """
    return {} if platform == "cpu" else {"xla_allow_excess_precision": False}


@dataclass(frozen=True)
class Devices:
    """The devices that share every batch.

    Attributes:
        mode: how steps are compiled for them.
        devices: the devices, in the order of a batch's parts.
        beside: whether other devices of this process train other runs at the same time.
        fsdp: whether trained weights, gradients and optimizer state are split over them, where there are several.
    """

    mode: Literal["jit", "pmap"]
    devices: Sequence[Any]
    beside: bool = False
    fsdp: bool = False

    @classmethod
    def of(cls, config: ParallelConfig) -> "Devices":
        """The first `parallel.devices` devices of each process, or all."""
        found: dict[int, list[Any]] = {}
        for device in jax.devices():
            found.setdefault(device.process_index, []).append(device)
        if config.mode == "pmap" and len(found) > 1:
            raise UserError(f"{flag('parallel.mode')} pmap: is for one process; choose jit for several")
        if config.fsdp and (config.mode == "pmap" or len(found) > 1):
            raise UserError(f"{flag('parallel.fsdp')} true: is for one process and {flag('parallel.mode')} jit")
        least = min(map(len, found.values()))
        if config.devices is not None and config.devices > least:
            raise UserError(f"{flag('parallel.devices')} {config.devices}: there are {least} here")
        used = tuple(d for process in sorted(found) for d in found[process][: config.devices])
        return cls(config.mode, used, fsdp=config.fsdp)

    def __len__(self) -> int:
        return len(self.devices)

    @cached_property
    def here(self) -> Sequence[Any]:
        """The devices of this process."""
        return [device for device in self.devices if device.process_index == jax.process_index()]

    @property
    def splits(self) -> bool:
        """Whether a state is split over the devices."""
        return self.fsdp and len(self) > 1

    @property
    def platform(self) -> str:
        """Kind of the devices: cpu, gpu or tpu."""
        return self.devices[0].platform

    @property
    def several(self) -> bool:
        """Whether some of the devices belong to other processes."""
        return len(self.here) < len(self)

    @cached_property
    def team(self) -> Team:
        """The team of the processes to which the devices belong."""
        return current_team() if self.several else SingleProcess()

    @property
    def apart(self) -> "tuple[Devices, ...]":
        """Each device by itself, to train other runs than the others."""
        return tuple(Devices(self.mode, (device,), beside=True) for device in self.devices)

    def by_default(self) -> AbstractContextManager[Any]:
        """A context in which this thread makes arrays on the device, if other devices train other runs."""
        return jax.default_device(self.devices[0]) if self.beside else nullcontext()

    @cached_property
    def mesh(self) -> Mesh:
        """A mesh with one axis, `AXIS`, of all devices."""
        return Mesh(np.array(self.devices), (AXIS,))

    def compile(self, function: Callable[..., Any], *examples: Any, donate: bool) -> Callable[..., Any]:
        """Compiles a function ahead of time; arguments as in `lower`."""
        return self.lower(function, *examples, donate=donate).compile(self.options)

    @property
    def options(self) -> dict[str, bool]:
        """Options of XLA's compiler for these devices."""
        return compiler_options(self.platform)

    def lower(
        self, function: Callable[..., Any], *examples: Any, donate: bool, chained: bool = False, like: Any = None
    ) -> Any:
        """Traces a function (state, frozen, batch) -> tree of values; its method `compile` compiles it.

        Args:
            function: computes one device's part; may use collectives over `AXIS`. Where the state is split and it is
                chained, it computes with whole arrays instead, and XLA decides which device computes what.
            examples: arguments placed by `state`, `shared` and `batch`, or their shapes by `like_state` and so on.
            donate: whether the state's memory is donated to the result.
            chained: whether the third argument is the result of another compiled function instead of a batch.
            like: the results, or a prefix of their tree, as arrays or shapes that are placed like them (under jit);
                None for what is replicated.
        """
        donated = (0,) if donate else ()
        if self.mode == "pmap":
            mapped = jax.pmap(
                function, AXIS, in_axes=(0, None, 0), out_axes=0, devices=self.devices, donate_argnums=donated
            )
            return mapped.lower(*examples)

        places = self._places(like)
        if self.splits and chained:
            return jax.jit(function, out_shardings=places, donate_argnums=donated).lower(*examples)
        state = jax.tree.map(lambda x: x.sharding.spec, examples[0]) if self.splits else P()
        out = jax.tree.map(lambda place: place.spec, places)
        mapped = _mapped(function, self.mesh, (state, P(), P() if chained else P(AXIS)), out)
        return jax.jit(mapped, donate_argnums=donated).lower(*examples)

    def lower_for_each(
        self, function: Callable[..., Any], *examples: Any, donate: bool, chained: bool = False, like: Any = None
    ) -> Any:
        """As `lower`, of one device, for any device of this kind: its `compile` takes it as `device_assignment`."""
        mesh = self.mesh.abstract_mesh
        examples = jax.tree.map(partial(_moved, mesh=mesh), examples)
        mapped = _mapped(function, mesh, (P(), P(), P() if chained else P(AXIS)), P())
        jitted = jax.jit(mapped, donate_argnums=(0,) if donate else ())
        return jitted.trace(*examples).lower(lowering_platforms=(self._compiler_platform,))

    @property
    def _compiler_platform(self) -> str:
        """The platform as XLA's compiler names it: cpu, tpu, cuda or rocm."""
        if self.platform != "gpu":
            return self.platform
        return "rocm" if "rocm" in self.devices[0].client.platform_version.lower() else "cuda"

    def _places(self, like: Any) -> Any:
        """The shardings of placed arrays or shapes; replicated for None."""
        everywhere = NamedSharding(self.mesh, P())
        return jax.tree.map(lambda x: everywhere if x is None else x.sharding, like, is_leaf=lambda x: x is None)

    def shared(self, tree: Any) -> Any:
        """Places weights that no step changes, replicated on every device."""
        return self._put(tree, P())

    def body(self, tree: Any) -> Any:
        """Places the body's weights, from which states are made: as `shared`, or split like states."""
        return jax.device_put(tree, split_places(tree, self.mesh)) if self.splits else self.shared(tree)

    def state(self, tree: Any) -> Any:
        """Places a state that steps change: replicated, or split; under pmap with a leading axis of devices."""
        if self.splits and isinstance(tree, TrainState):
            return jax.device_put(tree, split_places(tree, self.mesh, np.ndim(tree.seed)))
        if self.mode == "jit":
            return self.shared(tree)
        stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(self), *jnp.shape(x))), tree)
        return self._put(stacked, P(AXIS))

    def batch(self, tree: Any) -> Any:
        """Places a batch, whose leading axis is split over the devices."""
        return self._put(tree, P(AXIS))

    def like_shared(self, tree: Any) -> Any:
        """The shapes of arrays placed by `shared`; `tree` has arrays or shapes."""
        return self._like(tree, P())

    def like_state(self, tree: Any) -> Any:
        """The shapes of arrays placed by `state`; `tree` has arrays or shapes."""
        if self.splits and isinstance(tree, TrainState):
            return jax.tree.map(placed_shape, tree, split_places(tree, self.mesh, tree.seed.ndim))
        return self._like(tree, P()) if self.mode == "jit" else self._like(tree, P(AXIS), len(self))

    def like_batch(self, tree: Any) -> Any:
        """The shapes of arrays placed by `batch`; `tree` has arrays or shapes."""
        return self._like(tree, P(AXIS))

    def like_result(self, tree: Any, like: Any = None) -> Any:
        """The shapes of a compiled function's results; `tree` has them without the devices, `like` as for `lower`."""
        if self.mode == "pmap":
            return self._like(tree, P(AXIS))
        return jax.tree.map(
            lambda place, part: jax.tree.map(partial(placed_shape, place=place), part), self._places(like), tree
        )

    def like_there(self, tree: Any) -> Any:
        """The same shapes on these devices; `tree` has shapes placed on others."""
        return jax.tree.map(partial(_moved, mesh=self.mesh), tree)

    def _like(self, tree: Any, spec: P, *leading: int) -> Any:
        place = NamedSharding(self.mesh, spec)
        return jax.tree.map(lambda x: placed_shape(x, place, *leading), tree)

    def _put(self, tree: Any, spec: P) -> Any:
        sharding = NamedSharding(self.mesh, spec)
        if not self.several:
            return jax.device_put(tree, sharding)

        def part(value: Any) -> Any:
            if isinstance(value, jax.Array) and not value.is_fully_addressable:
                return value  # placed already
            array = np.asarray(value)
            return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

        return jax.tree.map(part, tree)

    def first(self, tree: Any) -> Any:
        """A replicated result as one device has it: without pmap's leading axis, as arrays of this process alone."""
        if self.mode == "jit":
            return self.local(tree)
        # Not x[0], a program over all devices, which may wait for ever beside another one on simulated devices.
        return jax.tree.map(lambda x: x.addressable_data(0)[0], tree)

    def local(self, tree: Any) -> Any:
        """Values as arrays of this process alone, which it can use without the others."""
        return jax.tree.map(lambda x: x.addressable_data(0), tree) if self.several else tree


def _mapped(function: Callable[..., Any], mesh: Mesh | AbstractMesh, specs: tuple[Any, ...], out: Any) -> Any:
    """A function of whole arguments that computes `function` on each device of a mesh.

    Args:
        function: of one device's state, frozen weights and batch; the latter without its axis of devices.
        mesh: the devices.
        specs: how the arguments are split over them.
        out: how the results are.
    """

    def one_device(state: Any, frozen: Any, batch: Any) -> Any:
        return function(state, frozen, batch if specs[2] == P() else jax.tree.map(lambda x: x[0], batch))

    one_device.__name__ = getattr(function, "__name__", one_device.__name__)  # the program's name in a profile
    return jax.shard_map(one_device, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)


def _moved(shape: Any, mesh: Mesh | AbstractMesh) -> jax.ShapeDtypeStruct:
    """A placed array's shape, or a placed shape, split alike on another mesh."""
    return placed_shape(shape, NamedSharding(mesh, shape.sharding.spec))
