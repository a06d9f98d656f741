"""Hugging Face's body and this package's, of the same weights; texts, and logits of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
import torch
from transformers import (
    GPT2Model,
)

from flax_agnews.config import ModelConfig
from flax_agnews.data.batches import measure
from flax_agnews.data.encoded import Split
from flax_agnews.data.tokens import Ragged
from flax_agnews.models import parameters
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.compute import FLOAT32, Compute
from flax_agnews.models.pretrained import Base, load_base
from support.reference import Reference, random_gpt2, saved
from support.tiny import CLASSES, build, by_number, devices, prepare, random_lengths, random_split, training, whole


def packed(texts: Sequence[np.ndarray]) -> Any:
    """All texts in one batch on a flat axis, with padding at its end."""
    tokens = Ragged.of(texts)
    shape = measure(tokens.lengths, devices=1, micro_batches=1)
    return whole(Split(tokens, np.zeros(len(texts), np.int32)), range(len(texts)), shape)


def logits(model: ClassifierModule, texts: Sequence[np.ndarray], compute: Compute = FLOAT32) -> np.ndarray:
    """Ours, packed: [texts, classes]."""
    frame, weights = parameters.split(model)
    batch = packed(texts)
    return by_number(jax.jit(lambda w, b: frame.merge(w)(b, None, compute))(weights, batch), batch)


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


# Rates at which 20 steps change these losses a lot, and a decay of 0.01 changes them by more than the bound.
RATES = {"full": 5e-3, "prompt": 2e-2, "partial": 2e-3}
# Of the reference: path -> rate of what trains.
UPPER = ("transformer/h/2/", "transformer/ln_f/", "score/")
TORCH_RATES: Mapping[str, Callable[[str], float | None]] = {
    "full": lambda path: RATES["full"],
    "prompt": lambda path: None if path.startswith("transformer/") else RATES["prompt"],
    "partial": lambda path: (
        5 * RATES["partial"] if path.startswith(UPPER) else RATES["partial"] if "/h/1/" in path else None
    ),
}


def comparison(
    name: str, body: tuple[GPT2Model, Base], texts: Split, compute: Compute = FLOAT32
) -> tuple[Any, Any, Any, Reference]:
    """Ours, compiled, with its first state and frozen weights; the reference with the same head and prompt."""
    model, base = body
    setup = prepare(build(name, base.config, learning_rate=RATES[name]), base, dropout=0.0, weight_decay=0.01)
    setup = replace(setup, model=replace(setup.model, compute=compute))
    program = training(setup, texts, devices(), epochs=4)
    state, frozen = program.start(seed=0)
    copy = GPT2Model(model.config).eval()
    copy.load_state_dict(model.state_dict())
    reference = Reference(copy, state.params["score/kernel"], state.params.get("prompt/embedding"))
    for path, parameter in reference.by_path().items():
        parameter.requires_grad_(TORCH_RATES[name](path) is not None)
    return program, state, frozen, reference


def adamw(name: str, trained: Mapping[str, torch.nn.Parameter]) -> torch.optim.AdamW:
    """PyTorch's optimizer of what a strategy trains, at its rates."""
    groups: dict[float, list[torch.nn.Parameter]] = {}
    for path, parameter in trained.items():
        groups.setdefault(TORCH_RATES[name](path) or 0.0, []).append(parameter)
    return torch.optim.AdamW([{"params": p, "lr": rate} for rate, p in groups.items()], weight_decay=0.01)
