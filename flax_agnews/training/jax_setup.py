"""Prepares this process for JAX: memory, kernels, other processes, and the cache of compiled programs."""

from flax_agnews.config import Config
from flax_agnews.system.environment import check_directory
from flax_agnews.training import processes
from flax_agnews.training.memory import keep_freed
from flax_agnews.training.parallel import compute_deterministically, keep_compilations


def begin(config: Config) -> None:
    """Applies the settings that count only before JAX looks for devices.

    Raises:
        UserError: settings of several processes don't go together, or the processes don't find each other.
    """
    check_directory()
    if config.parallel.keep_memory:
        keep_freed()  # before JAX starts its threads
    if config.train.deterministic:
        compute_deterministically()
    processes.start(config.parallel)
    if config.parallel.keep_compilations:
        keep_compilations()
