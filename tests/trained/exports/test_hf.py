"""Exports to transformers give the run's logits: alone, padded, in pairs and in a pipeline."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from support.bounds import BOUNDS
from support.exported_runs import MERGED, ODD, TEXTS, Made
from transformers import AutoTokenizer, GPT2ForSequenceClassification, pipeline

from flax_agnews import Classifier
from flax_agnews.trained.loading import LoadedRun
from flax_agnews.training.inference import Inference

PAIRS = [("a b", "c"), ("only the first", ""), ("", "only the second"), ("", ""), ("long " * 30, "second " * 20)]


def _alone_and_padded(model: Any, rows: Sequence[list[int]], padding: int) -> tuple[np.ndarray, np.ndarray]:
    """PyTorch's logits of each row by itself, and of all in one batch padded on the right."""
    longest = max(map(len, rows))
    ids = torch.tensor([row + [padding] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    with torch.no_grad():
        alone = torch.cat([model(torch.tensor([row])).logits for row in rows])
        return alone.numpy(), model(ids, attention_mask=mask).logits.numpy()


@pytest.mark.parametrize("strategy", MERGED)
def test_transformers_gives_the_logits_of_the_run(made: Callable[[str], Made], strategy: str) -> None:
    run, folder = made(strategy)
    model = GPT2ForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = TEXTS + ODD
    ours = Classifier.load(run).predict([*texts, ""]).logits
    batch = tokenizer(texts, truncation=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        together = model(**batch).logits.numpy()
    np.testing.assert_allclose(together, ours[:-1], rtol=0, atol=BOUNDS["hugging_face"])
    rows = [*tokenizer(texts, truncation=True)["input_ids"], [tokenizer.eos_token_id]]
    for theirs in _alone_and_padded(model, rows, model.config.pad_token_id):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=BOUNDS["hugging_face"])


@pytest.mark.parametrize("strategy", MERGED[1:])
def test_what_is_merged_is_far_from_what_it_began_as(made: Callable[[str], Made], strategy: str) -> None:
    """Or the test above would prove little."""
    run, folder = made(strategy)
    before, after = load_file(run.parents[1] / "base" / "model.safetensors"), load_file(folder / "model.safetensors")
    for layer, name in ((0, "attn.c_attn"), (1, "mlp.c_proj")):
        key = f"h.{layer}.{name}.weight"
        assert np.abs(after[f"transformer.{key}"] - before[key]).max() > 1e-2


def test_a_pipeline_gives_labels_and_probabilities(full: Made) -> None:
    run, folder = full
    answers = Classifier.load(run).predict(TEXTS + ODD)
    classify = pipeline("text-classification", str(folder), truncation=True)
    found = classify(TEXTS + ODD, batch_size=8)
    assert [one["label"] for one in found] == answers.labels
    np.testing.assert_allclose([one["score"] for one in found], answers.probabilities.max(axis=1), atol=1e-5)
    [every] = classify([TEXTS[0]], top_k=None)
    assert {one["label"]: pytest.approx(one["score"], abs=1e-5) for one in every} == dict(
        zip(answers.classes, answers.probabilities[0].tolist(), strict=True)
    )


def test_pairs_stand_as_in_training_and_an_empty_one_is_pooled_where_it_ends(full: Made, parts: LoadedRun) -> None:
    model = GPT2ForSequenceClassification.from_pretrained(full.folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(full.folder)
    rows = tokenizer(*map(list, zip(*PAIRS, strict=True)), truncation=True)["input_ids"]
    tokens = parts.tokenizer.encode(PAIRS, parts.max_length)
    assert rows == [tokens[place].tolist() for place in range(len(PAIRS))]
    ours = Inference(parts.model, parts.params, parts.frozen).logits(tokens)
    for theirs in _alone_and_padded(model, rows, model.config.pad_token_id):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=BOUNDS["hugging_face"])
    # The usual padding, end-of-text, would not do: the second pair ends in it.
    model.config.pad_token_id = tokenizer.eos_token_id
    _, wrong = _alone_and_padded(model, rows, tokenizer.eos_token_id)
    assert np.abs(wrong[1] - ours[1]).max() > 1e-2
