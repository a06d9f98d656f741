"""The interface of an export format."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from flax_agnews.data.tokens import Ragged
from flax_agnews.trained.loading import LoadedRun

Logits = Callable[[Ragged], Float[np.ndarray, "texts classes"]]
"""A function from the token ids of texts to their logits."""


@dataclass(frozen=True)
class Target:
    """An export format.

    Attributes:
        why_not: returns the reason, in a few words, why the format can't hold a run; None where it can.
        write: writes a run's files into an existing, empty folder.
        read: reads the written files back, with parts that they lack taken from the run; returns a function that
            computes their logits.
    """

    why_not: Callable[[LoadedRun], str | None]
    write: Callable[[LoadedRun, Path], None]
    read: Callable[[Path, LoadedRun], Logits]
