"""GPT-2 at its published size, 124M: parameter counts from shapes, and (long) hidden states and training steps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
import transformers
from support.bounds import BOUNDS
from support.reference import Reference, random_texts, saved
from support.tiny import build, devices, prepare, training, whole

from flax_agnews.config import ModelConfig
from flax_agnews.data.batches import measure
from flax_agnews.data.encoded import Split
from flax_agnews.data.tokens import Ragged
from flax_agnews.models import parameters
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.pretrained import Base, load_base
from flax_agnews.training.state import Setup

pytestmark = pytest.mark.long

TRAINABLE = {"full": 124_442_880, "prompt": 18_432, "partial": 42_531_840}  # the experiment's description
SETTINGS: dict[str, dict[str, Any]] = {"full": {}, "prompt": {"tokens": 20}, "partial": {}}


def closed_form() -> dict[str, int]:
    """From the published sizes: 50,257 entries, 1,024 positions, 768 wide, 12 layers; 4 classes."""
    width, layers = 768, 12
    norm = 2 * width
    layer = 2 * norm + width * 3 * width + 3 * width + width * width + width + 2 * width * 4 * width + 5 * width
    top = norm + 4 * width
    return {
        "full": (50257 + 1024) * width + layers * layer + top,
        "prompt": 20 * width + 4 * width,
        "partial": layers // 2 * layer + top,
    }


def set_up(name: str, base: Base) -> Setup:
    """With the experiment's settings, which are the defaults."""
    return prepare(build(name, base.config, **SETTINGS[name]), base, dropout=0.0)


@pytest.mark.parametrize("name", TRAINABLE)
def test_trainable_parameters(name: str) -> None:
    """No weights are made: shapes are enough."""
    setup = set_up(name, Base("shapes only", GPT2Config(), {}))
    assert setup.trainable_parameters == TRAINABLE[name] == closed_form()[name]
    added = 20 * 768 if name == "prompt" else 0
    assert setup.model.total_parameters == closed_form()["full"] + added


LENGTHS = (1, 50, 17, 32)  # one shape: 128 tokens


@pytest.fixture(scope="module")
def split() -> Split:
    return Split(Ragged.of(random_texts(LENGTHS, vocabulary=50257)), np.array([0, 1, 2, 3], np.int32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random weights in the files of transformers, 500 MB that go away afterwards."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("gpt2")
    saved(transformers.GPT2Model(transformers.GPT2Config()), path)
    yield path
    (path / "model.safetensors").unlink()


@pytest.fixture(scope="module")
def base(folder: Path) -> Base:
    return load_base(ModelConfig(name=str(folder)))


def test_hidden_states_are_hugging_faces(base: Base, folder: Path, split: Split) -> None:
    batch = whole(split, range(len(LENGTHS)), measure(np.array(LENGTHS), devices=1, micro_batches=1))
    frame, weights = parameters.split(base.classifier(4, jax.random.key(0)))
    ours = np.asarray(jax.jit(lambda w, b: frame.merge(w).hidden(b))(weights, batch))
    theirs = Reference(transformers.GPT2Model.from_pretrained(folder).eval(), np.zeros((768, 4), np.float32))
    with torch.no_grad():
        for slot, text in enumerate(batch.number):
            expected = theirs.hidden(split.tokens[text]).numpy()
            np.testing.assert_allclose(ours[batch.text == slot], expected, rtol=0, atol=BOUNDS["hugging_face"])


@pytest.mark.parametrize("name", TRAINABLE)
def test_two_steps(name: str, base: Base, split: Split) -> None:
    setup = set_up(name, base)
    program = training(setup, split, devices(), batch_size=len(LENGTHS), epochs=2)
    assert len(program.batches.shapes) == 1
    state, frozen = program.start(seed=0)
    assert parameters.count_numbers({path: value.shape for path, value in state.params.items()}) == TRAINABLE[name]
    losses = []
    for epoch in range(2):
        state, metrics = program.train_step(state, frozen, 0, epoch, 0)
        losses.append(float(metrics["loss"] / metrics["weight"]))
    assert np.isfinite(losses).all()
    assert losses[1] < losses[0]  # the same four texts again, after an update on them
