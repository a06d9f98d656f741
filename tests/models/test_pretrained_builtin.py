"""The body that comes with the package is the GPT-2 that transformers reads from its files."""

import jax
import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel, GPT2Tokenizer

from flax_agnews.config import ModelConfig
from flax_agnews.data.batches import EvalBatches
from flax_agnews.data.tokens import load_tokenizer
from flax_agnews.models.parameters import split
from flax_agnews.models.pretrained import Base, body_shapes, load_base, read_config
from flax_agnews.system.model_names import BUILTIN_FOLDER

TEXTS = ["Shares of Norwell Systems fell on Tuesday.", "The striker scored twice, said the coach.", "x"]


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base(ModelConfig(name="builtin"))


def test_it_has_a_name_and_weights_of_its_sizes(base: Base) -> None:
    assert base.name == "builtin"
    assert base.config == read_config("builtin")
    assert {path: value.shape for path, value in base.parameters.items()} == body_shapes(base.config)
    assert {value.dtype for value in base.parameters.values()} == {np.dtype("float32")}
    assert base.given_again  # an output folder needs no copy


def test_its_tokenizer_is_the_one_that_transformers_reads() -> None:
    ours, theirs = load_tokenizer("builtin"), GPT2Tokenizer.from_pretrained(BUILTIN_FOLDER)
    for text, ids in zip(TEXTS, ours.encode(TEXTS, 96), strict=True):
        assert ids.tolist() == theirs.encode(text)
    assert ours.end_of_text == theirs.eos_token_id
    assert ours.largest_id < read_config("builtin").vocab_size


def test_its_scores_of_the_next_token_are_those_of_transformers(base: Base) -> None:
    """1e-4 of the largest score: float32 sums in another order."""
    tokens = load_tokenizer("builtin").encode(TEXTS, 96)
    [(rows, _, batch)] = EvalBatches(tokens, np.zeros(len(TEXTS), np.int32), len(TEXTS), 1)
    batch = jax.tree.map(lambda leaf: leaf[0, 0], batch)
    frame, parameters = split(base.classifier(2, jax.random.key(0)))
    hidden = jax.jit(lambda parameters: frame.merge(parameters).hidden(batch))(parameters)
    scores = np.asarray(hidden) @ base.parameters["transformer/wte/embedding"].T
    model = GPT2LMHeadModel.from_pretrained(BUILTIN_FOLDER, dtype=torch.float32).eval()
    for slot in np.flatnonzero(batch.weight):
        ids = tokens[rows[batch.number[slot]]]
        with torch.no_grad():
            expected = model(torch.tensor(ids[None], dtype=torch.int64)).logits[0].numpy()
        np.testing.assert_allclose(scores[batch.text == slot], expected, atol=1e-4 * np.abs(expected).max())


def test_random_weights_of_its_sizes() -> None:
    random = load_base(ModelConfig(from_config="builtin"), seed=3)
    assert random.config == read_config("builtin")
    assert random.hash != load_base(ModelConfig(name="builtin")).hash
