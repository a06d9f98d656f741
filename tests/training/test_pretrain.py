"""Language modelling before fine-tuning: its loss against PyTorch, its texts, and when a kept body is used again."""

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from support.adapted_bodies import corpus, texts, tokenizer
from support.small_experiments import BODY, results, small
from support.tiny import devices
from transformers import GPT2Config, GPT2LMHeadModel

from flax_agnews.cli import arguments
from flax_agnews.config import ModelConfig, PretrainConfig, TrainConfig
from flax_agnews.data.encoded import Split, encode_corpus
from flax_agnews.data.sources import Corpus, Texts
from flax_agnews.data.tokens import Tokenizer
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.main import main
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.compute import FLOAT32
from flax_agnews.models.parameters import split
from flax_agnews.models.pretrained import load_base
from flax_agnews.models.weights import hub_key
from flax_agnews.training import pretrain
from flax_agnews.training.adaptation import AdaptationTask
from flax_agnews.training.batch_plans import plan_batches
from flax_agnews.training.parallel import Devices
from flax_agnews.training.step import language_loss

__all__ = ["corpus", "texts", "tokenizer"]  # fixtures

FLAGS = ("--pretrain.epochs", 3, "--pretrain.learning_rate", 3e-3)
TOOK = "pretrain: took the body adapted before"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of this file's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLAX_AGNEWS_CACHE", str(folder := tmp_path_factory.mktemp("cache")))
        yield folder


@pytest.fixture(scope="module")
def finished(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment that adapted its body; tests leave it as it is."""
    output = tmp_path_factory.mktemp("pretrained") / "out"
    assert main(small(output, "--strategy", "prompt", *FLAGS)) == 0
    return output


def _begun(output: Path, *flags: object) -> Experiment:
    """An experiment up to its first run: read, tokenized, adapted."""
    request = arguments.parse(small(output, "--strategy", "prompt", *FLAGS, *flags))
    experiment = Experiment(request.config, request.entries)
    experiment.adapt()
    return experiment


# --- the loss


def test_the_loss_is_pytorchs_text_by_text(corpus: Corpus, tokenizer: Tokenizer) -> None:
    """The reference: GPT2LMHeadModel's own shifted loss, each text alone, end-of-text behind it.

    1e-5: both sum some hundred float32 cross-entropies, in another order.
    """
    body = ModelConfig(from_config=BODY)
    base = load_base(body, seed=5)
    train = encode_corpus(corpus, tokenizer, 32).train
    [device, *_] = jax.local_devices()
    batches = plan_batches(train, TrainConfig(epochs=1, batch_size=16), [7], Devices("jit", (device,)))
    _, batch = batches.batch(7, 0, 1)
    batch = jax.tree.map(lambda leaf: leaf[0, 0], batch)
    frame, parameters = split(base.classifier(4, jax.random.key(0)))
    loss = language_loss(tokenizer.end_of_text, chunk=100)  # not a divisor of the tokens

    def sums(parameters: dict[str, jax.Array]) -> dict[str, jax.Array]:
        model: ClassifierModule = frame.merge(parameters)
        return loss(model, batch, None, FLOAT32)

    ours = {name: float(value) for name, value in jax.jit(sums)(parameters).items()}

    model = GPT2LMHeadModel(GPT2Config(**BODY)).eval()
    weights = {hub_key(path): torch.tensor(value) for path, value in base.parameters.items()}
    model.transformer.load_state_dict(weights)
    total, tokens = 0.0, 0
    for row in batches.rows(7, 0, 1):
        ids = torch.tensor([[*train.tokens[row], tokenizer.end_of_text]])
        with torch.no_grad():
            mean = model(ids, labels=ids).loss.item()
        total, tokens = total + mean * (ids.shape[1] - 1), tokens + ids.shape[1] - 1
    assert ours["weight"] == tokens
    assert ours["loss"] == pytest.approx(total, rel=1e-5)


def test_the_loss_falls_and_every_run_says_how_long_it_took(finished: Path) -> None:
    found = results(finished)
    losses = found["pretrain"]["loss"]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == pytest.approx(np.log(BODY["vocab_size"]), rel=0.05)  # almost uniform guesses at first
    assert losses[0] - losses[-1] > 0.1
    assert found["pretrain"]["epochs"] == 3
    seconds = json.loads((finished / "base" / "adaptation.json").read_text())["seconds"]
    assert {run["cost"]["pretrain_seconds"] for run in found["runs"]} == {seconds}
    assert seconds > 0
    assert "language modelling" in (finished / "report.md").read_text()


# --- what decides the adapted weights


def _write(folder: Path, corpus: Corpus) -> Path:
    """The corpus as files, its validation split among them."""
    folder.mkdir()
    for name in ("train", "validation", "test"):
        rows: Texts = getattr(corpus, name)
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *zip(rows.texts, rows.labels.tolist(), strict=True)])
    return folder


def test_only_training_texts_are_read(
    finished: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other validation and test texts: the same key, and the same weights where they are computed anew."""
    data = _write(tmp_path / "data", corpus)
    for name in ("validation", "test"):
        (data / f"{name}.csv").write_text("text,label\n" + "".join(f"never seen {i},{i % 4}\n" for i in range(20)))
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / "another cache"))
    experiment = _begun(tmp_path / "out", "--data.source", data)
    before = json.loads((finished / "base" / "adaptation.json").read_text())
    assert experiment.adaptation is not None
    assert experiment.adaptation.key == before["key"]
    assert experiment.adaptation.hash == experiment.base.hash == before["hash"]
    assert experiment.adaptation.loss == before["loss"]
    assert experiment.adaptation.seconds != before["seconds"]  # it was computed


def test_one_other_training_text_is_another_body(finished: Path, corpus: Corpus, tmp_path: Path) -> None:
    first, *others = corpus.train.texts
    other = " ".join(reversed(first.split()))
    assert other != first
    data = _write(tmp_path / "data", replace(corpus, train=Texts([other, *others], corpus.train.labels)))
    experiment = _begun(tmp_path / "out", "--data.source", data)
    before = json.loads((finished / "base" / "adaptation.json").read_text())
    assert experiment.adaptation is not None
    assert experiment.adaptation.key != before["key"]
    assert experiment.adaptation.hash != before["hash"]


# --- settings of `train`


def test_micro_batches_hold_in_language_modelling(texts: Split) -> None:
    """In its compiled shapes, and with the gradients of the whole batch: losses and weights after three updates.

    1e-4 of the losses as in contract 7. The weights move by AdamW, whose first steps are as long for a gradient of
    rounding noise as for any: all but a thousandth of the numbers are to be the same within a tenth of such a step.
    """
    config = PretrainConfig(epochs=1, batch_size=24, learning_rate=1e-3)
    body = load_base(ModelConfig(from_config={**BODY, "n_layer": 1}), seed=5)
    found = {}
    for most in (16384, 128):
        shared = TrainConfig(micro_batch_tokens=most, shapes=1)
        model = ModelConfig(dropout=0.0)
        task = AdaptationTask(body, texts, 3, config, model, shared, devices(), seed=7)
        shapes = plan_batches(texts, task.settings, [7], devices()).shapes
        assert len(shapes) == 1
        assert (shapes[0].micro_batches > 1) == (most == 128)
        # a batch's longest texts may go a little over, as in training: micro-batches are of about equal size
        assert shapes[0].tokens <= most + 64
        found[most] = pretrain.adapt(task)
    (whole, told), (parts, told_in_parts) = found.values()
    np.testing.assert_allclose(told_in_parts.loss, told.loss, rtol=1e-4)
    assert told.key != told_in_parts.key
    assert told.hash != body.hash
    moved, apart = 0, 0
    for path, value in whole.parameters.items():
        other = parts.parameters[path]
        apart += int((np.abs(value - other) > 0.1 * config.learning_rate).sum())
        moved += int((np.abs(value - body.parameters[path]) > 0.1 * config.learning_rate).sum())
    numbers = sum(value.size for value in whole.parameters.values())
    assert apart < 1e-3 * numbers
    assert moved > 0.5 * numbers


def test_an_experiment_begun_before_goes_on_with_its_body(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder has the body by the key of then, though its settings of `train` now count."""
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / "empty"))
    output = Path(shutil.copytree(finished, tmp_path / "out"))
    experiment = _begun(output)
    data, tokenizer = experiment.data, experiment.prepare().tokenizer
    note = json.loads((output / "base" / "adaptation.json").read_text())
    config = experiment.config
    body = load_base(config.model, config.train.seed)
    task = AdaptationTask.of(config, body, data.train, tokenizer.end_of_text, experiment.devices)
    old = task.key_of_settings
    assert old != note["key"]  # one compiled shape, not two
    (output / "base" / "adaptation.json").write_text(json.dumps({**note, "key": old}))
    shutil.rmtree(tmp_path / "empty", ignore_errors=True)
    experiment.folder.lock.release()
    capsys.readouterr()
    assert _begun(output).base.hash == note["hash"]
    assert TOOK in capsys.readouterr().out


# --- kept


def test_the_kept_body_reloads_with_its_hash(finished: Path, cache: Path) -> None:
    note = json.loads((finished / "base" / "adaptation.json").read_text())
    assert (
        load_base(ModelConfig(name=str(finished / "base"))).hash == note["hash"] == results(finished)["model"]["base"]
    )
    assert load_base(ModelConfig(name=str(cache / "adapted" / note["key"]))).hash == note["hash"]
    untrained = load_base(ModelConfig(from_config=BODY), seed=42)
    assert untrained.hash != note["hash"]


def test_another_experiment_takes_it_without_training(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = _begun(tmp_path / "out", "--train.runs", 1)
    assert TOOK in capsys.readouterr().out
    note = json.loads((finished / "base" / "adaptation.json").read_text())
    assert experiment.adaptation is not None
    assert experiment.adaptation.seconds == note["seconds"]  # what it took when it was computed
    assert experiment.base.hash == note["hash"]
    assert json.loads((tmp_path / "out" / "base" / "adaptation.json").read_text()) == note


@pytest.mark.parametrize("damage", ["cut", "changed", "half"])
def test_a_damaged_cache_is_computed_anew(
    finished: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, monkeypatch
) -> None:
    note = json.loads((finished / "base" / "adaptation.json").read_text())
    copy = shutil.copytree(cache, tmp_path / "cache") / "adapted" / note["key"]
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / "cache"))
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    if damage == "half":  # the process ended between weights and note
        (copy / "adaptation.json").unlink()
    elif damage == "cut":
        weights.write_bytes(content[: len(content) // 2])
    else:
        content[-3] ^= 1
        weights.write_bytes(content)
    experiment = _begun(tmp_path / "out", "--train.runs", 1)
    assert TOOK not in capsys.readouterr().out
    assert experiment.base.hash == note["hash"]
    assert load_base(ModelConfig(name=str(copy))).hash == note["hash"]  # and mended
