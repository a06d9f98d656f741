"""Compiles programs for an NVIDIA GPU where there is none, with XLA's description of that GPU."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any
from unittest import mock

H100 = """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 minor: 0 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 8 }
runtime_version { major: 12 minor: 9 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""An H100 as XLA's compiler describes it: xla/backends/gpu/target_config/specs in https://github.com/openxla/xla"""

MISSING = "needs JAX's plugin for CUDA, though no GPU: pip install jax[cuda12]"

FLAGS = "--xla_gpu_autotune_level=0"
"""What `XLA_FLAGS` must have before JAX starts: without a device no kernels can be timed and chosen."""


def available() -> bool:
    """Whether JAX's plugin for CUDA is installed; it compiles without a GPU."""
    return find_spec("jax_plugins") is not None and any(find_spec(f"jax_plugins.xla_cuda{n}") for n in (12, 13))


def compiled(function: Callable[..., Any], *examples: Any, options: Mapping[str, bool | str]) -> str:
    """The text of a program for one H100, as XLA compiles it.

    JAX itself must run on a CPU (`JAX_PLATFORMS=cpu`), with `FLAGS`. Kernels are chosen without trying them: on a
    device, matrix products may be other ones.

    Args:
        function: what to compile.
        examples: its arguments, or arrays' shapes.
        options: options of XLA's compiler.
    """
    import jax  # not at the top: the process that starts the compiling one has no need of it
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    target = topologies.get_topology_desc("", "cuda", topology="1x1x1", target_config=H100)
    where = NamedSharding(Mesh(target.devices[:1], ("devices",)), PartitionSpec())
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where), examples)
    with mock.patch("jax.default_backend", return_value="gpu"):  # for choices that are made while tracing
        return str(jax.jit(function).lower(*shapes).compile(dict(options)).as_text())
