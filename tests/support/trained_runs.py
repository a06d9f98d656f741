"""Runs of the small experiment that has finished, and texts for them."""

from pathlib import Path
from typing import Any

import pytest

from flax_agnews.config import DataConfig
from flax_agnews.data.sources import load_corpus
from flax_agnews.errors import UserError
from flax_agnews.trained.classifier import Classifier

FULL, PROMPT, MINE = (Path(name) / "seed-42" for name in ("full", "prompt", "mine"))


TEXTS = load_corpus(DataConfig(source="builtin", limit_train=2)).test.texts[:40]


def loading_refusal(run: Path, **how: Any) -> str:
    with pytest.raises(UserError) as error:
        Classifier.load(run, **how)
    message = error.value.with_flags
    assert "\n" not in message
    return message
