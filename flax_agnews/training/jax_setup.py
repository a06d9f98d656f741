"""Prepares this process before JAX starts: memory, deterministic kernels, other processes, compilation cache."""

import os
from pathlib import Path

import jax

from flax_agnews.config import ParallelConfig
from flax_agnews.errors import UserError, flag
from flax_agnews.system import caches
from flax_agnews.system.environment import check_directory, unwritable
from flax_agnews.training import private_apis, processes
from flax_agnews.training.memory import keep_freed
from flax_agnews.training.private_apis import devices_started

_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def begin(parallel: ParallelConfig, deterministic: bool) -> None:
    """Applies the settings that only work before JAX starts its devices.

    Args:
        parallel: settings of memory, other processes and the compilation cache.
        deterministic: whether to use only kernels that give the same bits every time.

    Raises:
        UserError: settings of several processes don't go together, or the processes don't find each other.
    """
    check_directory()
    if parallel.keep_memory:
        keep_freed()  # before JAX starts its threads
    if parallel.engine == "ray" and not devices_started():
        jax.config.update("jax_platforms", "cpu")  # tasks compute; their GPU must not be taken by their driver
    if deterministic:
        compute_deterministically()
    processes.start(parallel)
    if parallel.keep_compilations:
        keep_compilations()


def keep_compilations() -> None:
    """Turns on JAX's persistent compilation cache, in the cache folder unless JAX was given another one.

    If the folder can't be written, the cache stays off: JAX would warn at every program.
    """
    given, folder = jax.config.values["jax_compilation_cache_dir"], caches.folder_of("compiled")
    if given is not None and os.path.isabs(given) and unwritable(Path(given)):
        jax.config.update("jax_compilation_cache_dir", None)
    elif given is None and unwritable(folder) is None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # A start runs dozens of programs that take 0.03 to 0.4 s to compile, and 5 ms to read.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)
        keep_whole_programs()
        caches.limit()  # an error now rather than a warning of JAX at every program


def keep_whole_programs() -> None:
    """Makes JAX write compiled programs atomically, within the limit of all caches, and without warnings.

    JAX's own limit (`jax_compilation_cache_max_size`) isn't used: it counts compiled programs alone, fails on those
    that were kept before it was set, takes a lock for every read, and leaves incomplete files on a full disk.
    """

    def used(path: Path) -> None:
        caches.mark_used(path)
        caches.mark_used(path.parent / private_apis.AUTOTUNED)  # kept as long as programs: the next one needs it

    def write(path: Path, content: bytes) -> None:
        caches.write_cached(path, content)
        caches.mark_used(path.parent / private_apis.AUTOTUNED)

    private_apis.watch_compilation_cache(write, used)


def compute_deterministically() -> None:
    """Makes XLA use only deterministic kernels on GPUs, without autotuning; must be called before a device is used.

    The flag "guarantees run-to-run determinism", and implies `xla_gpu_exclude_nondeterministic_ops`
    (https://github.com/openxla/xla/pull/12520): scatters add in a fixed order, cuBLAS and the gradient of cuDNN's
    attention use deterministic algorithms, and of several kernels the first is taken instead of the one that was
    fastest this time. XLA reads kept results of autotuning all the same, so these are left out too: they would be
    those of a process without the flag. The cost depends on the model.

    Raises:
        UserError: JAX has started its GPU already, and wouldn't see the flag.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    if _DETERMINISTIC in flags.split():
        return
    if private_apis.devices_started() and jax.default_backend() == "gpu":
        how = f"Begin with it, or set the environment variable XLA_FLAGS={_DETERMINISTIC} before Python starts"
        raise UserError(f"{flag('train.deterministic')}: JAX has started the GPU in this process without it. {how}")
    os.environ["XLA_FLAGS"] = f"{flags} {_DETERMINISTIC}".strip()
