"""The interface of an export format."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from flax_agnews.data.tokens import Ragged
from flax_agnews.trained.loading import LoadedRun

Logits = Callable[[Ragged], Float[np.ndarray, "texts classes"]]
"""A function: token ids of texts -> their logits."""


@dataclass(frozen=True)
class Target:
    """A format to export to.

    Attributes:
        summary: what loads it, in a few words.
        why_not: gives the reason, in a few words, why the format can't hold a run; None where it can.
        write: writes a run's files into an existing, empty folder.
        read: reads the written files, and of the run only what they don't hold; returns the function that computes
            logits from them.
    """

    summary: str
    why_not: Callable[[LoadedRun], str | None]
    write: Callable[[LoadedRun, Path], None]
    read: Callable[[Path, LoadedRun], Logits]
