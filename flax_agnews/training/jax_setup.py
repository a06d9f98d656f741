"""Prepares this process before JAX starts: memory, deterministic kernels, other processes, compilation cache."""

import jax

from flax_agnews.config import ParallelConfig
from flax_agnews.system.environment import check_directory
from flax_agnews.training import processes
from flax_agnews.training.memory import keep_freed
from flax_agnews.training.parallel import compute_deterministically, keep_compilations
from flax_agnews.training.private_apis import devices_started


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
