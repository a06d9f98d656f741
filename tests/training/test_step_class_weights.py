"""Class weights and label smoothing give the gradients of PyTorch's loss, however a batch is divided."""

import copy
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from support.bounds import BOUNDS, assert_same_leaves
from support.reference import Reference, random_gpt2, saved
from support.small_experiments import results, small
from support.tiny import CLASSES, build, devices, prepare, random_lengths, random_split
from transformers import GPT2Model

from flax_agnews.config import ModelConfig, TrainConfig
from flax_agnews.data.encoded import Split
from flax_agnews.main import main
from flax_agnews.metrics.scores import balanced_weights
from flax_agnews.models.pretrained import Base, load_base
from flax_agnews.training.batch_plans import plan_batches
from flax_agnews.training.history import History, Journal, Scores
from flax_agnews.training.program import training_loss
from flax_agnews.training.state import create_state
from flax_agnews.training.step import make_gradients

SHARES = (0.6, 0.3, 0.1, 0.0)  # the last class has no training texts


def uneven_labels(texts: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(CLASSES, texts, p=SHARES).astype(np.int32)


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_scikit_learns(seed: int) -> None:
    labels = uneven_labels(200, seed)
    ours = balanced_weights(labels)
    np.testing.assert_allclose(ours, compute_sample_weight("balanced", labels), rtol=1e-6)
    assert ours.dtype == np.float32
    assert ours.mean() == pytest.approx(1)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> tuple[GPT2Model, Base]:
    model = random_gpt2(n_positions=80, n_layer=1)
    return model, load_base(ModelConfig(name=saved(model, tmp_path_factory.mktemp("body"))))


@pytest.mark.parametrize(("class_weights", "smoothing"), [("balanced", 0.0), ("balanced", 0.3), ("none", 0.3)])
@pytest.mark.parametrize(
    ("count", "mode", "micro_batch_tokens"),
    [pytest.param(2, "jit", 60, id="micro-batches"), pytest.param(4, "pmap", 16384, id="pmap")],
)
def test_gradients_are_those_of_pytorchs_loss(
    count: int, mode: Any, micro_batch_tokens: int, class_weights: Any, smoothing: float, body: tuple[GPT2Model, Base]
) -> None:
    """`torch.nn.CrossEntropyLoss` with `weight` and `label_smoothing`; 1 weighs the class without texts."""
    model, base = body
    texts = Split(random_split(random_lengths(30, 40)).tokens, uneven_labels(30))
    setup, where = prepare(build("full", base.config), base, dropout=0.0), devices(count, mode)
    settings = TrainConfig(
        epochs=1,
        batch_size=20,
        shapes=1,
        micro_batch_tokens=micro_batch_tokens,
        class_weights=class_weights,
        label_smoothing=smoothing,
    )
    batches = plan_batches(texts, settings, [0], where)
    batch = batches.batch(0, 0, 0)[1]
    dealt = batch.weight.sum(-1)
    assert len(dealt) == count
    assert (dealt.shape[1] > 1) == (mode == "jit")  # micro-batches
    assert np.ptp(dealt) > 0.5  # a mean of means would be another number
    state, frozen = create_state(setup, where.shared(dict(base.parameters)), seed=0)
    reference = Reference(copy.deepcopy(model), state.params["score/kernel"])

    gradients = make_gradients(setup.model, training_loss(texts.labels, CLASSES, settings))
    placed = (where.state(state), where.shared(frozen), where.batch(batch))

    def mean(state: Any, frozen: Any, batch: Any) -> Any:
        sums, grads = gradients(state.params, frozen, batch, None)
        return sums, jax.tree.map(lambda g: g / sums["weight"], grads)

    sums, ours = where.first(where.compile(mean, *placed, donate=False)(*placed))

    rows = batches.rows(0, 0, 0)
    labels = torch.tensor(texts.labels[rows], dtype=torch.int64)
    present = np.unique(texts.labels)
    weights = np.ones(CLASSES)
    if class_weights == "balanced":
        weights[present] = compute_class_weight("balanced", classes=present, y=texts.labels)
    logits = reference([texts.tokens[row] for row in rows])
    weight = torch.tensor(weights, dtype=torch.float32)
    loss = torch.nn.CrossEntropyLoss(weight=weight, label_smoothing=smoothing)(logits, labels)
    loss.backward()
    plain = torch.nn.functional.cross_entropy(logits, labels).item()
    assert abs(loss.item() - plain) > 10 * BOUNDS["losses"] * plain
    assert float(sums["loss"] / sums["weight"]) == pytest.approx(loss.item(), rel=BOUNDS["losses"])
    assert_same_leaves(ours, {path: p.grad.numpy() for path, p in reference.by_path().items() if p.grad is not None})
    assert int(sums["texts"]) == len(rows)
    assert int(sums["correct"]) == int((logits.argmax(-1) == labels).sum())


def test_the_training_loss_is_weighted_and_the_accuracy_is_not(tmp_path: Path) -> None:
    history = History()
    journal = Journal(history, 2, 2, tmp_path / "metrics.jsonl", None)
    for step, (loss, weight, correct, texts) in enumerate([(6.0, 3.0, 1.0, 8.0), (1.0, 4.0, 4.0, 5.0)], start=1):
        sums = {"loss": loss, "weight": weight, "correct": correct, "texts": texts}
        journal.update(step, {**sums, "grad_norm": 1.0, "skipped": False})
    journal.epoch(Scores(0.5, 0.5, 0.5, [[1, 1], [1, 1]]))
    assert history.train_loss == [(6 + 1) / (3 + 4)]
    assert history.train_accuracy == [(1 + 4) / (8 + 5)]


def test_losses_of_validation_and_test_are_never_smoothed(tmp_path: Path) -> None:
    """At a rate that learns nothing only the training loss differs."""
    flags = ("--strategy", "head", "--head.learning_rate", 1e-12, "--train.runs", 1, "--train.epochs", 1)
    assert main(small(tmp_path / "plain", *flags)) == 0
    assert main(small(tmp_path / "smoothed", *flags, "--train.label_smoothing", 0.9)) == 0
    [plain], [smoothed] = (results(tmp_path / name)["runs"] for name in ("plain", "smoothed"))
    assert smoothed["test_loss"] == pytest.approx(plain["test_loss"], rel=1e-6)
    assert smoothed["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-6)
    assert abs(smoothed["train_loss"][0] - plain["train_loss"][0]) > 1e-4
