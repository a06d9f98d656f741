"""Hugging Face's body and this package's, of the same weights; texts, and logits of them."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pytest
from transformers import (
    GPT2Model,
)

from flax_agnews.config import ModelConfig
from flax_agnews.data.batches import measure
from flax_agnews.data.encoded import Split
from flax_agnews.data.tokens import Ragged
from flax_agnews.models import parameters
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.pretrained import Base, load_base
from support.reference import random_gpt2, saved
from support.tiny import CLASSES, by_number, random_lengths, random_split, whole


def packed(texts: Sequence[np.ndarray]) -> Any:
    """All texts in one batch on a flat axis, with padding at its end."""
    tokens = Ragged.of(texts)
    shape = measure(tokens.lengths, devices=1, micro_batches=1)
    return whole(Split(tokens, np.zeros(len(texts), np.int32)), range(len(texts)), shape)


def logits(model: ClassifierModule, texts: Sequence[np.ndarray], dtype: Any = "float32") -> np.ndarray:
    """Ours, packed: [texts, classes]."""
    frame, weights = parameters.split(model)
    batch = packed(texts)
    return by_number(jax.jit(lambda w, b: frame.merge(w)(b, None, dtype))(weights, batch), batch)


def loaded(name: str) -> Base:
    return load_base(ModelConfig(name=name))


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> tuple[GPT2Model, Base]:
    """Hugging Face's body, and ours of the same weights: layer 0 frozen in `partial`, 1 its base group, 2 its top."""
    model = random_gpt2(n_layer=3, n_positions=80)
    return model, loaded(saved(model, tmp_path_factory.mktemp("body")))


@pytest.fixture(scope="module")
def texts() -> Split:
    """Texts for steps of 8; the last step of an epoch has 5."""
    return random_split(random_lengths(37, 40), classes=CLASSES)


def rows_of(program: Any, texts: Split, step: int) -> tuple[list[np.ndarray], np.ndarray]:
    """The texts and labels of an update."""
    rows = program.batches.rows(0, *divmod(step, program.batches.steps_per_epoch))
    return [texts.tokens[row] for row in rows], texts.labels[rows]
