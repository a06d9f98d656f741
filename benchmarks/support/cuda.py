"""PyTorch on a GPU: waiting for what was begun, and memory that doesn't suffice."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from benchmarks.support.workers import NotMeasured


def synchronize(device: str) -> None:
    """Waits until a device, "cpu" or a GPU, has computed all that was begun; the clock is read afterwards."""
    if device != "cpu":
        torch.cuda.synchronize()


@contextmanager
def within_memory() -> Iterator[None]:
    """Makes the device's lack of memory a reason for leaving a contender out."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise NotMeasured("the device's memory doesn't suffice") from error
