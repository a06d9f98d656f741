"""A trained classifier gives its run's answers and PyTorch's, whatever other texts stand beside a text."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.special import softmax
from support.reference import Reference, by_path
from support.small_experiments import BODY, best_weights, head_only, results, settings
from support.trained_runs import FULL, MINE, PROMPT, TEXTS
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2Model, GPT2Tokenizer

import flax_agnews
from flax_agnews.config import DataConfig
from flax_agnews.data.sources import load_corpus
from flax_agnews.errors import UserError
from flax_agnews.trained.classifier import Classifier
from flax_agnews.trained.loading import load_run

ODD = ["", "a", "<|endoftext|>", "Ünïcödé ☃ 🎉", "two\nlines", " ".join(TEXTS[:5])]
MOST = 32  # tokens, data.max_length of small experiments


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
    params = load_run(trained / PROMPT).params
    reference = Reference(body, np.array(params["score/kernel"]), np.array(params["prompt/embedding"])).eval()
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


# --- what doesn't fit


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
