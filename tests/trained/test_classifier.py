"""A trained classifier answers as its run did and as PyTorch does, each text for itself; what doesn't fit is told."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file, save_file
from scipy.special import softmax
from support.reference import Reference, by_path
from support.small_experiments import BODY, best_weights, head_only, results, settings
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2Model, GPT2Tokenizer

import flax_agnews
from flax_agnews.config import DataConfig
from flax_agnews.data.sources import load_corpus
from flax_agnews.errors import UserError
from flax_agnews.runs.output_folder import OutputFolder, config_dict
from flax_agnews.trained.classifier import Classifier

FULL, PROMPT, MINE = (Path(name) / "seed-42" for name in ("full", "prompt", "mine"))
TEXTS = load_corpus(DataConfig(source="builtin", limit_train=2)).test.texts[:40]
ODD = ["", "a", "<|endoftext|>", "Ünïcödé ☃ 🎉", "two\nlines", " ".join(TEXTS[:5])]
MOST = 32  # tokens, data.max_length of small experiments


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of the experiment that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "out"))


@pytest.fixture(scope="module")
def full(trained: Path) -> Classifier:
    return Classifier.load(trained / FULL)


@pytest.fixture(scope="module")
def prompt(trained: Path) -> Classifier:
    return Classifier.load(trained / PROMPT)


def _ids(output: Path, text: str) -> list[int]:
    """Of transformers' tokenizer; an empty text is end-of-text, and a special token in a text is plain text."""
    tokenizer = GPT2Tokenizer.from_pretrained(str(output / "tokenizer"))
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return (ids or [tokenizer.eos_token_id])[:MOST]


# --- the same answers


def test_full_answers_as_transformers_does_text_by_text(trained: Path, full: Classifier) -> None:
    config = GPT2Config(**BODY, num_labels=4, pad_token_id=0, bos_token_id=0, eos_token_id=0)
    model = GPT2ForSequenceClassification(config).eval()
    weights = best_weights(trained / FULL)
    with torch.no_grad():
        model.score.weight.copy_(torch.tensor(weights["score/kernel"].T))
        for path, parameter in by_path(model.transformer).items():
            parameter.copy_(torch.tensor(weights[path]))
        theirs = [model(torch.tensor([_ids(trained, text)])).logits[0].numpy() for text in TEXTS + ODD]
    ours = full.predict(TEXTS + ODD)
    np.testing.assert_allclose(ours.logits, theirs, atol=2e-5)
    np.testing.assert_allclose(ours.probabilities, softmax(np.array(theirs), axis=1), atol=1e-5)
    assert ours.labels == [full.classes[number] for number in np.argmax(theirs, axis=1)]
    assert len(set(ours.labels)) > 2


def test_a_prompt_stands_before_every_text(trained: Path, prompt: Classifier) -> None:
    """The body is the one that the output folder keeps; prompt and head are the run's."""
    body = GPT2Model.from_pretrained(trained / "base").eval()
    params = {path: np.asarray(value) for path, value in prompt._inference._weights[0].items()}
    reference = Reference(body, params["score/kernel"], params["prompt/embedding"]).eval()
    with torch.no_grad():
        theirs = reference([np.array(_ids(trained, text)) for text in TEXTS + ODD]).numpy()
    np.testing.assert_allclose(prompt.predict(TEXTS + ODD).logits, theirs, atol=2e-5)


@pytest.mark.parametrize("run", [FULL, PROMPT])
def test_the_test_split_gets_the_scores_of_the_run(trained: Path, run: Path) -> None:
    data = settings(trained)["data"]
    test = load_corpus(DataConfig(**data)).test
    answers = Classifier.load(trained / run).predict(test.texts)
    [told] = [r for r in results(trained)["runs"] if r["strategy"] == run.parent.name]
    assert np.mean(answers.numbers == test.labels) == told["test_accuracy"]
    losses = -np.log(answers.probabilities[np.arange(len(test)), test.labels])
    assert losses.mean() == pytest.approx(told["test_loss"], rel=1e-5)
    assert answers.classes == results(trained)["data"]["classes"]


def test_a_body_and_a_tokenizer_that_have_a_name(copied: Path, full: Classifier) -> None:
    config = settings(copied)
    for name in ("base", "tokenizer"):
        (copied / name).rename(copied / f"my {name}")
    config["model"] |= {"from_config": None, "name": str(copied / "my base"), "tokenizer": str(copied / "my tokenizer")}
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    np.testing.assert_array_equal(Classifier.load(copied / FULL).predict(TEXTS).logits, full.predict(TEXTS).logits)


def test_a_strategy_of_ones_own_is_passed(trained: Path) -> None:
    answers = flax_agnews.Classifier.load(trained / MINE, strategy=head_only()).predict(TEXTS)
    assert answers.probabilities.shape == (len(TEXTS), 4)
    with pytest.raises(UserError, match=r"mine is no registered strategy; pass it: Classifier\.load\(run, strategy="):
        Classifier.load(trained / MINE)


# --- each text for itself


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("run", [FULL, PROMPT])
def test_an_answer_does_not_depend_on_the_other_texts(copied: Path, run: Path, dtype: str) -> None:
    """Bit for bit: alone, beside others, in any order, and beside one more of every length."""
    config = settings(copied)
    config["model"]["dtype"] = dtype
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    classifier = Classifier.load(copied / run)
    texts = TEXTS + ODD
    together = classifier.predict(texts).logits
    alone = np.concatenate([classifier.predict([text]).logits for text in texts])
    np.testing.assert_array_equal(together, alone)
    order = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_array_equal(classifier.predict([texts[i] for i in order]).logits, together[order])
    many = [word * " news" for word in range(1, 40)] * 3
    np.testing.assert_array_equal(classifier.predict(many + texts).logits[len(many) :], together)


def test_bfloat16_is_not_float32(copied: Path, full: Classifier) -> None:
    config = settings(copied)
    config["model"]["dtype"] = "bfloat16"
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    other, same = Classifier.load(copied / FULL).predict(TEXTS).logits, full.predict(TEXTS).logits
    assert 1e-5 < np.abs(other - same).max() < 0.1


# --- which run


def test_an_output_folder_gives_its_best_run_by_validation(copied: Path) -> None:
    for best, accuracy in (("prompt", 0.9), ("full", 0.95)):
        path = copied / best / "seed-42" / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "val_accuracy": [accuracy], "test_accuracy": 0.0}))
        assert Classifier.load(copied).name == f"{best}/seed-42"


def test_a_run_is_found_from_inside_its_folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained / FULL)
    assert Classifier.load(".").name == "full/seed-42"


# --- what doesn't fit


def _refusal(run: Path, **how: Any) -> str:
    with pytest.raises(UserError) as error:
        Classifier.load(run, **how)
    message = error.value.with_flags
    assert "\n" not in message
    return message


def test_what_is_no_run(trained: Path, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", trained / "full"):
        assert _refusal(path) == f"{path}: is neither an output folder nor a run in one (OUTPUT/STRATEGY/seed-K)"


def test_what_is_not_finished(copied: Path) -> None:
    (copied / FULL / "result.json").unlink()
    assert _refusal(copied / FULL).startswith(f"{copied / FULL}: isn't finished; run the same command again")
    for path in copied.glob("*/seed-*/result.json"):
        path.unlink()
    assert _refusal(copied).startswith(f"{copied}: no run is finished")


def test_a_run_out_of_its_output_folder(copied: Path, tmp_path: Path) -> None:
    moved = shutil.move(copied / FULL, tmp_path / "elsewhere" / "full" / "seed-42")
    assert "has no config.yaml; give a run where it was made" in _refusal(Path(moved))


def test_weights_that_were_not_kept(copied: Path) -> None:
    shutil.rmtree(copied / FULL / "checkpoints")
    message = _refusal(copied / FULL)
    assert message.startswith(f"{copied / FULL}: its weights were not kept (--checkpoint.keep_best")
    assert message.endswith("kept: mine/seed-42, prompt/seed-42")


@pytest.mark.parametrize("kind", ["arrays", "state.json"])
def test_damaged_weights(copied: Path, kind: str) -> None:
    [best] = (copied / FULL / "checkpoints").glob("best-epoch-*")
    path = max(
        (p for p in (best / kind).rglob("*") if p.is_file()), key=lambda p: p.stat().st_size, default=best / kind
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "the weights are damaged" in _refusal(copied / FULL)


def test_weights_without_class_names(copied: Path) -> None:
    [best] = (copied / FULL / "checkpoints").glob("best-epoch-*")
    state = json.loads((best / "state.json").read_text())
    (best / "state.json").write_text(json.dumps({**state, "notes": {}}))
    assert "older than the names of their classes" in _refusal(copied / FULL)


def test_another_body(copied: Path) -> None:
    path = copied / "base" / "model.safetensors"
    tensors = load_file(path)
    tensors["ln_f.bias"] = tensors["ln_f.bias"] + 1e-3
    save_file(tensors, path, metadata={"format": "pt"})
    where = f"{copied / PROMPT}: was trained from other weights than {path.parent} has"
    assert _refusal(copied / PROMPT).startswith(where)
    assert _refusal(copied / PROMPT, model=copied / "base").startswith(where)


def test_no_body(copied: Path) -> None:
    shutil.rmtree(copied / "base")
    message = _refusal(copied / PROMPT)
    assert message.startswith(f"{copied / PROMPT}: what it was trained from can't be had: ")
    assert str(copied / "base") in message
    assert message.endswith("Give the body as it was then: --model.name DIR (in Python: model=DIR)")


def test_a_body_that_has_moved_is_given(copied: Path, prompt: Classifier) -> None:
    (copied / "base").rename(copied / "moved")
    moved = Classifier.load(copied / PROMPT, model=copied / "moved")
    np.testing.assert_array_equal(moved.predict(TEXTS).logits, prompt.predict(TEXTS).logits)


def test_a_run_that_trained_everything_needs_no_body(copied: Path, full: Classifier) -> None:
    shutil.rmtree(copied / "base")
    np.testing.assert_array_equal(Classifier.load(copied / FULL).predict(TEXTS).logits, full.predict(TEXTS).logits)
    [best] = (copied / FULL / "checkpoints").glob("best-epoch-*")
    state = json.loads((best / "state.json").read_text())
    del state["notes"]["body"]  # as in runs that were made before it was kept
    (best / "state.json").write_text(json.dumps(state))
    assert "what it was trained from can't be had: " in _refusal(copied / FULL)


def test_another_tokenizer(copied: Path) -> None:
    path = copied / "tokenizer" / "vocab.json"
    vocabulary = json.loads(path.read_text())
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(vocabulary))
    assert "was trained with another tokenizer" in _refusal(copied / FULL)


@pytest.mark.parametrize(
    ("section", "changed", "tells"),
    [
        ("prompt", {"tokens": 5}, "was trained by another prompt: its labels, settings"),
        ("prompt", {"depth": 5}, "the settings of prompt are of another version"),
        (
            "prompt",
            {"tokens": "4"},
            "the settings of prompt are of another version of this program (tokens can't be '4')",
        ),
        ("train", {"epoch": 5}, "config.yaml: is of another version of this program"),
        (
            "model",
            {"dtype": "float16"},
            "config.yaml: is of another version of this program (dtype can't be 'float16')",
        ),
        ("model", {"name": None}, "config.yaml: is of another version of this program (name can't be None)"),
        ("train", {"clip_norm": -1.0}, "--train.clip_norm -1.0: must be above 0"),
    ],
)
def test_other_settings(copied: Path, section: str, changed: dict[str, Any], tells: str) -> None:
    config = settings(copied)
    config[section] |= changed
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    assert tells in _refusal(copied / PROMPT)


def test_another_strategy_of_ones_own(trained: Path) -> None:
    other = flax_agnews.Strategy.by_pattern("mine", {r"^(score|transformer/ln_f)/": "frozen", r".*": "frozen"})
    assert "strategy mine: every parameter is frozen" in _refusal(trained / MINE, strategy=other)
    entry = flax_agnews.REGISTRY["full"]
    assert "was trained by another full" in _refusal(trained / MINE, strategy=entry)


# --- what isn't a text


def test_what_predict_takes(full: Classifier) -> None:
    assert full.predict([]).probabilities.shape == (0, 4)
    assert full.predict([]).labels == []
    for texts, tells in (
        ("a text", "predict takes a list of texts"),
        (["a", None], "predict text 2: the text is missing"),
        (["a", 5], "predict text 2: 5 is no text"),
        (["\ud800"], "predict text 1: the text is no valid Unicode"),
    ):
        with pytest.raises(UserError, match=tells):
            full.predict(texts)


def test_probabilities_add_up_to_one(full: Classifier) -> None:
    np.testing.assert_allclose(full.predict(TEXTS).probabilities.sum(axis=1), 1, atol=1e-6)


def test_a_text_beyond_the_longest_is_cut_as_in_training(full: Classifier) -> None:
    long = "news " * 500
    np.testing.assert_array_equal(full.predict([long]).logits, full.predict(["news " * 400]).logits)


def test_the_settings_of_a_folder_are_those_that_were_written(trained: Path) -> None:
    config = OutputFolder(trained).config
    assert config_dict(config) == settings(trained)
    assert config.train.epochs == 1
