"""What has to be done before JAX looks for devices."""

from flax_agnews.config import ParallelConfig
from flax_agnews.system.environment import check_directory
from flax_agnews.training import processes
from flax_agnews.training.memory import keep_freed
from flax_agnews.training.parallel import compute_deterministically, keep_compilations


def begin(parallel: ParallelConfig, deterministic: bool) -> None:
    """Memory, kernels, other processes and the cache of compilations, as the settings say."""
    check_directory()
    if parallel.keep_memory:
        keep_freed()  # before JAX starts its threads
    if deterministic:
        compute_deterministically()
    processes.start(parallel)
    if parallel.keep_compilations:
        keep_compilations()
