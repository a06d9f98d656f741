"""The private names of JAX, Orbax and Python that the package uses, and why; no other file imports any.

Checked with JAX 0.10.2 and Orbax 0.12.8; tests/training/test_private_apis.py fails if another version has moved them or
behaves differently. Training with several processes needs the key-value store; without the other names everything
works, only less well.
"""

import importlib
from collections.abc import Callable
from concurrent.futures import thread as pools
from contextlib import suppress
from pathlib import Path
from typing import Any

from jax._src import distributed, xla_bridge

AUTOTUNED = "xla_gpu_per_fusion_autotune_cache_dir"
"""Folder in that of compiled programs in which XLA keeps, by JAX's default, which kernels were fastest on a GPU.

XLA makes it, and writes its files by renaming. It reads a result from there before it measures or chooses anything.
"""


def process_count() -> int:
    """Number of processes in `jax.distributed`; 1 without it. `jax.process_count` would start the devices."""
    return distributed.global_state.num_processes


def process_number() -> int:
    """Number of this process, from 0; like `process_count`, available before the devices are started."""
    return distributed.global_state.process_id


def key_value_store() -> Any:
    """Client of JAX's coordination service, whose key-value store carries all messages between processes."""
    return distributed.global_state.client


def devices_started() -> bool:
    """Whether this process has started JAX's devices; False if the private name has moved."""
    with suppress(AttributeError):
        return xla_bridge.backends_are_initialized()
    return False


def compilation_cache() -> Any:
    """The class of JAX's compilation cache; its method `put(key, value)` writes a program into the folder `path`."""
    return importlib.import_module("jax._src.lru_cache").LRUCache


def compilation_suffix() -> str:
    """Suffix of a compiled program's file name, after the key."""
    return importlib.import_module("jax._src.lru_cache")._CACHE_SUFFIX


def watch_compilation_cache(write: Callable[[Path, bytes], None], used: Callable[[Path], None]) -> None:
    """Makes JAX's compilation cache call `write` for a file that doesn't exist yet, and `used` for one that it read.

    JAX writes each file in place: an incomplete one stays, and causes a warning in every later process. It also warns
    of a file that another process removes while it is read. A size-limited cache (`jax_compilation_cache_max_size`) is
    not changed. If the private names have moved, does nothing.
    """
    with suppress(ImportError, AttributeError):
        programs, suffix = compilation_cache(), compilation_suffix()
        their_get, their_put = programs.get, programs.put

        def get(cache: Any, key: str) -> bytes | None:
            try:
                value: bytes | None = their_get(cache, key)
            except FileNotFoundError:
                return None
            if value is not None and not cache.eviction_enabled:
                used(Path(str(cache.path)) / f"{key}{suffix}")
            return value

        def put(cache: Any, key: str, value: bytes) -> None:
            path = Path(str(cache.path)) / f"{key}{suffix}"
            if cache.eviction_enabled:
                their_put(cache, key, value)
            elif not path.exists():
                write(path, value)

        programs.get, programs.put = get, put


def skip_directory_comparison() -> None:
    """Stops Orbax from comparing a checkpoint's path between processes.

    It would wait for all of them, even if `MultiprocessingOptions.active_processes` is this one alone.
    """
    execution = importlib.import_module("orbax.checkpoint.experimental.v1._src.saving.execution")
    execution._check_directory_consistency = lambda directory: None  # type: ignore[attr-defined]


def leave_background_pools() -> None:
    """Stops Python's exit from waiting for the thread pools of background threads, whose writes may hang.

    Needed after a failed write too, since Orbax's threads may still wait then.
    """
    known = getattr(pools, "_threads_queues", {})
    for thread in list(known):
        if thread.daemon:
            known.pop(thread, None)
