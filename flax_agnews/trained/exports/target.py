"""What a format to export to is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flax_agnews.data.tokens import Ragged
from flax_agnews.trained.loading import Parts

Logits = Callable[[Ragged], np.ndarray]
"""Token ids of texts -> [texts, classes] float32."""


@dataclass(frozen=True)
class Target:
    """A format to export to.

    Attributes:
        summary: who loads it, in a few words.
        why_not: of a run -> what of it the format has no place for, in a few words; None where it has one for all.
        write: (run, folder) -> its files, in a folder that is there and empty.
        read: (folder, run) -> what the written files compute; of the run only what they don't hold themselves.
    """

    summary: str
    why_not: Callable[[Parts], str | None]
    write: Callable[[Parts, Path], None]
    read: Callable[[Path, Parts], Logits]
