"""The linear probe against scikit-learn on the hidden states that Hugging Face's model computes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from support.small_experiments import small
from transformers import GPT2Model

from flax_agnews.cli import arguments as cli
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.runs.references import read_references
from flax_agnews.system.model_names import BUILTIN_FOLDER


def experiment(output: Path, strategy: str, *flags: object) -> Experiment:
    epochs = ("--train.runs", 1, "--train.epochs", 1, "--train.cache_frozen", "on", "--train.cache_dtype", "float32")
    settings = small(output, *epochs, "--strategy", strategy, "--report.reference", "tfidf", *flags)
    request = cli.parse(settings)
    return Experiment(request.config, request.entries)


def last_states(model, tokens) -> np.ndarray:
    """Input of the final layer norm at each text's last token, [texts, width]."""
    found = []
    model.ln_f.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0][0, -1].numpy().astype(np.float64)))
    with torch.no_grad():
        for start, end in zip(tokens.offsets, tokens.offsets[1:], strict=False):
            model(torch.from_numpy(tokens.ids[start:end].astype(np.int64))[None])
    return np.stack(found)


def test_the_probe_is_scikit_learns_on_hugging_faces_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / "cache"))
    with experiment(tmp_path / "out", "head", "--model.from_config", "null", "--model.name", "builtin") as made:
        made.run()
        data = made.data
    found = read_references(tmp_path / "out")["probe"]
    model = GPT2Model.from_pretrained(BUILTIN_FOLDER, dtype=torch.float32).eval()
    states = {name: last_states(model, getattr(data, name).tokens) for name in ("train", "test")}
    scale = StandardScaler().fit(states["train"])
    classifier = LogisticRegression(C=found.settings["C"], solver="newton-cholesky", tol=1e-10, max_iter=1000)
    classifier.fit(scale.transform(states["train"]), data.train.labels)
    expected = classifier.predict_proba(scale.transform(states["test"]))
    # Both solvers stop near the optimum, and the states are float32 in another order of sums.
    np.testing.assert_allclose(found.predictions.splits["test"].probabilities, expected, atol=2e-3)
    losses = [loss for _, _, loss in found.tried]
    assert losses[:-1] == sorted(losses[:-1], reverse=True)  # it rose at the last value at the earliest


def test_without_a_wholly_frozen_body_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / "cache"))
    with experiment(
        tmp_path / "out", "bitfit", "--model.from_config.n_layer", 1, "--train.cache_frozen", "auto"
    ) as made:
        made.run()
    assert list(read_references(tmp_path / "out")) == ["tfidf", "majority"]
