"""Contract 9: the same weights give the logits of Hugging Face's PyTorch, and 20 steps of AdamW give its losses."""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from support.bounds import BOUNDS, assert_same_leaves, assert_same_losses
from support.computes import ON_CPU, computed
from support.parity import RATES, adamw, body, comparison, loaded, logits, packed, rows_of, texts
from support.reference import SMALL, Reference, by_path, change, random_gpt2, random_texts, saved
from support.tiny import build, devices, prepare, training
from transformers import (
    GPT2DoubleHeadsModel,
    GPT2ForQuestionAnswering,
    GPT2ForSequenceClassification,
    GPT2ForTokenClassification,
    GPT2LMHeadModel,
    GPT2Model,
    PreTrainedModel,
)

from flax_agnews.data.encoded import Split
from flax_agnews.errors import UserError
from flax_agnews.models import parameters
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.gpt2 import ACTIVATIONS
from flax_agnews.models.pretrained import Base
from flax_agnews.training.step import classification_loss, make_gradients

__all__ = ["body", "texts"]  # fixtures

CLASSES = 4
LENGTHS = (1, 130, 64, 2, 65, 17)  # at, below and above a block's 64 tokens; the model's longest is 130

# Every field of config.json that changes the numbers, and other sizes.
VARIANTS: Mapping[str, dict[str, Any]] = {
    "plain": {},
    **{name: {"activation_function": name} for name in ACTIVATIONS},
    "n_inner": {"n_inner": 40},
    "epsilon": {"layer_norm_epsilon": 0.3},
    "unscaled": {"scale_attn_weights": False},
    "by layer": {"scale_attn_by_inverse_layer_idx": True},
    "by layer, unscaled": {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False},
    "one head": {"n_layer": 1, "n_head": 1},
    "three heads": {"n_embd": 48, "n_head": 3, "n_layer": 3, "vocab_size": 211, "n_positions": 140},
}
SAME_NUMBERS = {"plain", "gelu_new", "gelu_pytorch_tanh", "gelu_fast"}  # one formula under several names


def hidden_states(model: ClassifierModule, texts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Ours, packed: [tokens, embd] of each text."""
    frame, weights = parameters.split(model)
    batch = packed(texts)
    out = np.asarray(jax.jit(lambda w, b: frame.merge(w).hidden(b))(weights, batch))
    return [out[batch.text == slot] for slot in np.argsort(batch.number)]


KERNEL = "transformer/h/0/mlp/c_fc/kernel"


def assert_same(ours: Any, reference: Any) -> None:
    """Within the bound for Hugging Face's numbers, absolute: hidden states are of order 1 after the last norm."""
    np.testing.assert_allclose(ours, reference, rtol=0, atol=BOUNDS["hugging_face"])


def classifier(base: Base) -> ClassifierModule:
    return base.classifier(CLASSES, jax.random.key(0))


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_every_setting_gives_the_hidden_states(fields: dict[str, Any], tmp_path: Path) -> None:
    model = random_gpt2(**fields)
    texts = random_texts(LENGTHS)
    ours = hidden_states(classifier(loaded(saved(model, tmp_path))), texts)
    alone = Reference(model, np.zeros((1, 1)))
    with torch.no_grad():
        for mine, ids in zip(ours, texts, strict=True):
            assert_same(mine, alone.hidden(ids).numpy())


# Other sizes have other weights and need no such check: they would not load.
CHANGED = [n for n, f in VARIANTS.items() if n not in SAME_NUMBERS and not {*f} & {*SMALL, "n_inner"}]


@pytest.mark.parametrize("name", CHANGED)
def test_every_setting_shows(name: str) -> None:
    """Else the test above could not tell whether the library reads the setting."""
    ids = random_texts([20])[0]
    with torch.no_grad():
        plain, changed = (
            Reference(random_gpt2(**fields), np.zeros((1, 1))).hidden(ids) for fields in ({}, VARIANTS[name])
        )
    assert (plain - changed).abs().max() > 20 * BOUNDS["hugging_face"]


def test_sequence_classification_gives_the_logits(tmp_path: Path) -> None:
    """Its own head and pooling, right-padded; weights under the prefix `transformer.`."""
    pad = 0
    model = random_gpt2(GPT2ForSequenceClassification, num_labels=CLASSES, pad_token_id=pad)
    texts = [np.maximum(ids, 1) for ids in random_texts(LENGTHS)]
    padded = np.full((len(texts), max(LENGTHS)), pad)
    for row, ids in zip(padded, texts, strict=True):
        row[: len(ids)] = ids
    mask = np.arange(padded.shape[1]) < np.array(LENGTHS)[:, None]
    with torch.no_grad():
        theirs = model(torch.tensor(padded), attention_mask=torch.tensor(mask)).logits.numpy()
        head = model.score.weight.T.numpy()
    frame, weights = parameters.split(classifier(loaded(saved(model, tmp_path))))
    assert_same(logits(frame.merge({**weights, "score/kernel": head}), texts), theirs)


@pytest.mark.parametrize(
    ("kind", "fields", "heads"),
    [
        (GPT2LMHeadModel, {}, ()),  # its head is the embeddings
        (GPT2LMHeadModel, {"tie_word_embeddings": False}, ("lm_head",)),
        (GPT2DoubleHeadsModel, {}, ("multiple_choice_head",)),
        (GPT2ForSequenceClassification, {"num_labels": 5, "pad_token_id": 0}, ("score",)),
        (GPT2ForTokenClassification, {"num_labels": 5}, ("classifier",)),
        (GPT2ForQuestionAnswering, {}, ("qa_outputs",)),
    ],
)
def test_a_model_for_another_task_gives_its_body(
    kind: type[PreTrainedModel], fields: dict[str, Any], heads: tuple[str, ...], tmp_path: Path
) -> None:
    """Its hidden states are those of PyTorch, and the heads that are left out are named."""
    model, texts = random_gpt2(kind, **fields), random_texts(LENGTHS)
    base = loaded(saved(model, tmp_path))
    assert base.left_out == heads
    assert set(base.parameters) == set(by_path(model.transformer))
    ours, alone = hidden_states(classifier(base), texts), Reference(model.transformer, np.zeros((1, 1)))
    with torch.no_grad():
        for mine, ids in zip(ours, texts, strict=True):
            assert_same(mine, alone.hidden(ids).numpy())


@pytest.mark.parametrize("key", ["classifier.dense.weight", "qa_outputs.0.weight", "pooler.weight", "my_score.weight"])
def test_what_is_no_head_of_gpt2_is_refused(key: str, tmp_path: Path) -> None:
    folder = saved(random_gpt2(GPT2ForTokenClassification), tmp_path)
    change(tmp_path, lambda tensors: tensors.update({key: torch.ones(2, 2)}))
    with pytest.raises(UserError, match=f"has weights that its config.json doesn't: {re.escape(key)}$"):
        loaded(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "flax_model.msgpack"])
def test_flax_gpt2s_own_files(file: str, shared: Path, tmp_path: Path) -> None:
    source = shared / "flax_gpt2_fixture"
    for name in ("config.json", file):
        shutil.copy(source / name, tmp_path)
    expected = np.load(source / "expected.npz")
    lengths = expected["attention_mask"].sum(1)
    texts = [ids[:length] for ids, length in zip(expected["input_ids"], lengths, strict=True)]
    ours = hidden_states(classifier(loaded(str(tmp_path))), texts)
    for mine, theirs, length in zip(ours, expected["last_hidden_state"], lengths, strict=True):
        assert_same(mine, theirs[:length])


@pytest.mark.optimized
@pytest.mark.parametrize("name", RATES)
def test_gradients_and_twenty_steps(name: str, body: tuple[GPT2Model, Base], texts: Split) -> None:
    program, state, frozen, reference = comparison(name, body, texts)
    trained = {path: p for path, p in reference.by_path().items() if p.requires_grad}
    optimizer = adamw(name, trained)
    with torch.no_grad():
        untrained = reference.loss(*rows_of(program, texts, 19)).item()

    ours, theirs = [], []
    for step in range(20):
        loss = reference.loss(*rows_of(program, texts, step))
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert_same_leaves(
                mean_gradients(program, state, frozen), {path: p.grad.numpy() for path, p in trained.items()}
            )
        optimizer.step()
        theirs.append(loss.item())
        state, metrics = program.train_step(state, frozen, 0, *divmod(step, program.batches.steps_per_epoch))
        ours.append(float(metrics["loss"] / metrics["weight"]))

    assert abs(theirs[-1] - untrained) > 1000 * BOUNDS["losses"], "the steps barely changed the loss"
    assert_same_losses(ours, theirs)


def mean_gradients(program: Any, state: Any, frozen: Any) -> dict[str, np.ndarray]:
    """Ours of the first batch's mean loss, by path."""
    gradients = make_gradients(program.setup.model, classification_loss)
    batch = program.devices.batch(program.batches.batch(0, 0, 0)[1])

    def mean(params: Any, frozen: Any, batch: Any) -> Any:
        sums, grads = gradients(params, frozen, batch, None)
        return jax.tree.map(lambda g: g / sums["weight"], grads)

    compiled = program.devices.compile(mean, state.params, frozen, batch, donate=False)
    return {path: np.asarray(g) for path, g in compiled(state.params, frozen, batch).items()}


def test_bfloat16_is_near_float32(body: tuple[GPT2Model, Base]) -> None:
    """Operands rounded to 8 bits are off by 2^-8 of themselves at most, so a product is off by at most about
    sqrt(2) 2^-8 of its size, whatever its length. A layer has 6 such products and the head is one more; their
    roundings are independent, so their squares add up. (Softmax can steepen that; most roundings are smaller.)
    """
    model = classifier(body[1])
    texts = random_texts((1, 3, 20, 66, 80, 7, 40, 12))
    exact, rough = logits(model, texts), logits(model, texts, ON_CPU)
    error = np.linalg.norm(rough - exact) / np.linalg.norm(exact)
    products = 6 * model.config.n_layer + 1
    assert rough.dtype == np.float32
    assert error <= (2 * products) ** 0.5 * 2**-8
    assert error >= 2**-10, "nothing was rounded: bfloat16 was not used"


def test_bfloat16_keeps_float32_masters(body: tuple[GPT2Model, Base], texts: Split) -> None:
    setup = prepare(build("full", body[1].config), body[1], dropout=0.0)
    program = training(computed(setup, ON_CPU), texts, devices())
    state, frozen = program.start(seed=0)
    before = np.array(state.params[KERNEL])
    state, _ = program.train_step(state, frozen, 0, 0, 0)
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert {leaf.dtype.name for leaf in [*state.params.values(), *moments]} == {"float32"}
    # Adam's first step moves every number by the rate, 5e-5 (and its decay): lost in bfloat16, whose numbers are
    # 1e-3 apart near 0.2, the size of most of these.
    moved = np.abs(np.asarray(state.params[KERNEL]) - before)
    assert np.median(moved) == pytest.approx(5e-5, rel=0.05)
