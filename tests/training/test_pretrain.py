"""Language-model adaptation: against PyTorch, from training texts only, kept by what decides it."""

import csv
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from support.small_experiments import BODY, results, small
from support.tiny import devices, random_base
from transformers import GPT2Config, GPT2LMHeadModel

from flax_agnews.cli import arguments
from flax_agnews.config import Config, ModelConfig, PretrainConfig, TrainConfig
from flax_agnews.data.encoded import Split, encode_corpus
from flax_agnews.data.sources import Corpus, Texts, load_corpus
from flax_agnews.data.tokens import Tokenizer, train_tokenizer
from flax_agnews.errors import UserError
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.main import main
from flax_agnews.models.classifier import Classifier
from flax_agnews.models.parameters import split
from flax_agnews.models.pretrained import load_base
from flax_agnews.models.weights import hub_key
from flax_agnews.training import pretrain
from flax_agnews.training.adaptation import adaptation_key, arrangement
from flax_agnews.training.memory import out_of_memory
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import plan_batches
from flax_agnews.training.step import language_loss

FLAGS = ("--pretrain.epochs", 3, "--pretrain.learning_rate", 3e-3)
TOOK = "pretrain: took the body adapted before"
_BASE, _CONFIG = random_base(), PretrainConfig(epochs=2)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """The texts of the small experiment."""
    return load_corpus(arguments.parse(small(Path("unused"))).config.data)


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


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> Tokenizer:
    return train_tokenizer(corpus.train.texts, BODY["vocab_size"])


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
        model: Classifier = frame.merge(parameters)
        return loss(model, batch, None, jnp.float32)

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


@pytest.fixture(scope="module")
def texts(corpus: Corpus, tokenizer: Tokenizer) -> Split:
    return encode_corpus(corpus, tokenizer, 32).train


def _key(texts: Split, shared: TrainConfig, config: PretrainConfig = _CONFIG) -> str:
    """The key of an adaptation on one device, as an experiment asks for it."""
    arranged = arrangement(texts, config, shared, devices(), seed=7)
    return adaptation_key(_BASE, texts, 3, config, ModelConfig(), 7, arranged)


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
        shapes = plan_batches(texts, pretrain.settings(config, shared), [7], devices()).shapes
        assert len(shapes) == 1
        assert (shapes[0].micro_batches > 1) == (most == 128)
        # a batch's longest texts may go a little over, as in training: micro-batches are of about equal size
        assert shapes[0].tokens <= most + 64
        model = ModelConfig(dropout=0.0)
        found[most] = pretrain.adapt(body, texts, 3, config, model, shared, devices(), 7)
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


def test_the_key_of_default_settings_is_the_one_of_before(texts: Split) -> None:
    """Written out: bodies that were kept before `train` counted are found by it."""
    facts = [{"epochs": 2, "learning_rate": 5e-4, "batch_size": 32}, "float32", None, 3, 7, _BASE.hash]
    content = json.dumps(facts, sort_keys=True).encode() + texts.tokens.ids.tobytes() + texts.tokens.offsets.tobytes()
    assert _key(texts, TrainConfig()) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("shared", "other"),
    [
        ({"micro_batch_tokens": 200}, True),
        ({"shapes": 1}, True),
        ({"micro_batch_tokens": 8192, "shapes": 4}, False),  # no batch is split or padded otherwise
        ({"weight_decay": 0.5, "schedule": "linear", "clip_norm": 3.0, "label_smoothing": 0.1}, False),
        ({"epochs": 9, "batch_size": 5, "class_weights": "balanced", "early_stopping": 1}, False),
    ],
    ids=str,
)
def test_the_key_sees_what_changes_numbers(texts: Split, shared: dict[str, Any], other: bool) -> None:
    assert (_key(texts, TrainConfig(**shared)) != _key(texts, TrainConfig())) == other


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
    old = adaptation_key(body, data.train, tokenizer.end_of_text, config.pretrain, config.model, config.train.seed)
    assert old != note["key"]  # one compiled shape, not two
    (output / "base" / "adaptation.json").write_text(json.dumps({**note, "key": old}))
    shutil.rmtree(tmp_path / "empty", ignore_errors=True)
    experiment.folder.lock.release()
    capsys.readouterr()
    assert _begun(output).base.hash == note["hash"]
    assert TOOK in capsys.readouterr().out


def test_too_little_memory_names_what_language_modelling_reads() -> None:
    config = Config(pretrain=PretrainConfig(batch_size=48), train=TrainConfig(batch_size=7, micro_batch_tokens=1))
    with pytest.raises(UserError) as caught, out_of_memory(config, language=True):
        raise MemoryError
    assert "48 texts, 1 token at once" in str(caught.value)
    assert "--train.micro_batch_tokens" in str(caught.value)
    assert "parallel_seeds" not in str(caught.value)


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
