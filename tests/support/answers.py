"""A finished small run, its classifier and its logits of the test texts."""

from pathlib import Path

import numpy as np
import pytest

from flax_agnews.config import DataConfig
from flax_agnews.data.sources import load_corpus
from flax_agnews.trained.classifier import Classifier

TEST = load_corpus(DataConfig(source="builtin", limit_train=2)).test.first(60)


@pytest.fixture(scope="module")
def run(trained: Path) -> Path:
    return trained / "full" / "seed-42"


@pytest.fixture(scope="module")
def classifier(run: Path) -> Classifier:
    return Classifier.load(run)


@pytest.fixture(scope="module")
def logits(classifier: Classifier) -> np.ndarray:
    return classifier.predict(TEST.texts).logits
