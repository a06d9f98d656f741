"""The private names of JAX, Orbax and Python that the package uses, and why; no other file imports any.

Known of JAX 0.10.2 and Orbax 0.12.8; tests/training/test_private_apis.py fails where another version has moved them or
behaves otherwise. Several processes can't train as one without the key-value store; without the others all works, only
less well.
"""

import importlib
from collections.abc import Callable
from concurrent.futures import thread as pools
from contextlib import suppress
from pathlib import Path
from typing import Any

from jax._src import distributed


def process_count() -> int:
    """How many processes `jax.distributed` has joined; 1 without it. `jax.process_count` would start the devices."""
    return distributed.global_state.num_processes


def process_number() -> int:
    """Which of them this one is, from 0; known before the devices are started, as `process_count` is."""
    return distributed.global_state.process_id


def key_value_store() -> Any:
    """The client of the coordination service, whose keys and values are the only messages between processes."""
    return distributed.global_state.client


def compilation_cache() -> Any:
    """The class whose method `put(key, value)` keeps a compiled program in a file of the folder `path`."""
    return importlib.import_module("jax._src.lru_cache").LRUCache


def compilation_suffix() -> str:
    """What such a file's name has behind the key."""
    return importlib.import_module("jax._src.lru_cache")._CACHE_SUFFIX


def replace_compilation_writes(write: Callable[[Path, bytes], None]) -> None:
    """Has JAX's cache of compiled programs call `write` for a file that isn't there yet.

    Its own way writes each file in place: one that is cut short stays, and warns in every later process. A cache that
    is limited in size (`jax_compilation_cache_max_size`) is left as it is. Where the names have moved, nothing happens.
    """
    with suppress(ImportError, AttributeError):
        programs, suffix = compilation_cache(), compilation_suffix()
        theirs = programs.put

        def put(cache: Any, key: str, value: bytes) -> None:
            path = Path(str(cache.path)) / f"{key}{suffix}"
            if cache.eviction_enabled:
                theirs(cache, key, value)
            elif not path.exists():
                write(path, value)

        programs.put = put


def skip_directory_comparison() -> None:
    """Has Orbax not compare a checkpoint's path with the other processes'.

    It waits for all of them to come, even where `MultiprocessingOptions.active_processes` is this one alone.
    """
    execution = importlib.import_module("orbax.checkpoint.experimental.v1._src.saving.execution")
    execution._check_directory_consistency = lambda directory: None  # type: ignore[attr-defined]


def leave_background_pools() -> None:
    """Has Python's exit not wait for thread pools that background threads have started, of writes that hang.

    Of one that failed neither: Orbax may wait on for what never comes.
    """
    known = getattr(pools, "_threads_queues", {})
    for thread in list(known):
        if thread.daemon:
            known.pop(thread, None)
