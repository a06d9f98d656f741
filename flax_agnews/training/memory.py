"""Memory: keeps freed memory in the process, explains out-of-memory errors, and measures the peak of a run.

The peak is counted by the devices, or on a CPU (Linux) is that of the process's resident set.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flax_agnews.config import TrainConfig
from flax_agnews.errors import UserError, flag
from flax_agnews.system.text import counted

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


# Parameters of glibc's mallopt -> (number, value): one arena, whose memory is never given back to the system.
_KEEP = {
    "M_ARENA_MAX": (-8, 1),
    "M_MMAP_MAX": (-4, 0),
    "M_TRIM_THRESHOLD": (-1, -1),  # the greatest size_t: never
    "M_TOP_PAD": (-2, 64 << 20),
}


def keep_freed() -> bool:
    """Keeps freed memory in the process, on Linux with glibc: a step's temporaries then cause no page faults.

    XLA allocates a step's temporaries as one block, which glibc gives back to the system at the end of every step and
    faults in anew at the next. Measured on a small GPT-2: 17,700 page faults per step without, 300 to 600 with, and a
    quarter of the processor time. Best before JAX starts its threads, which have arenas of their own otherwise.

    Returns:
        Whether it was set.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(parameter, value) == 1 for parameter, value in _KEEP.values())


@contextmanager
def out_of_memory(train: TrainConfig, language_batch: int | None = None) -> Iterator[None]:
    """Turns an out-of-memory error into a `UserError` that says in one line what didn't fit and what to lower.

    Args:
        train: settings of training.
        language_batch: texts per batch of language modelling; None if a strategy trains.
    """
    from jax.errors import JaxRuntimeError  # here, so that `keep_freed` can be imported without JAX

    try:
        yield
    except (MemoryError, JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        language, texts = language_batch is not None, language_batch or train.batch_size
        others = f", {flag('train.parallel_seeds')} or {flag('train.eval_batch_size')}"
        now = f" (now {train.parallel_seeds} and {train.eval_batch_size})"
        raise UserError(
            f"out of memory{' in language modelling' if language else ''} with batches of {counted(texts, 'text')}, "
            f"{counted(train.micro_batch_tokens, 'token')} at once. Lower {flag('train.micro_batch_tokens')} "
            f"(the same numbers in less memory){'' if language else others + now}"
        ) from error


def reset_peak() -> None:
    """Resets the peak of the process, where the system allows it (Linux, see proc(5)); a device's can't be reset."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return


def free_bytes(device: Any) -> int | None:
    """Free memory of a device in bytes, of what this process may use; None if unknown, as on a CPU."""
    stats = device.memory_stats() or {}
    return stats["bytes_limit"] - stats["bytes_in_use"] if {"bytes_limit", "bytes_in_use"} <= stats.keys() else None


def peak_bytes(devices: Any, process: bool = True) -> int | None:
    """Peak memory in bytes of the fullest device, or of this process since the reset; None if unknown.

    Args:
        devices: the devices.
        process: whether the process's memory is asked for where the devices don't count theirs, as on a CPU.
    """
    counts = [
        stats["peak_bytes_in_use"] for d in devices if (stats := d.memory_stats()) and "peak_bytes_in_use" in stats
    ]
    if counts:
        return max(counts)
    if not process:
        return None
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
