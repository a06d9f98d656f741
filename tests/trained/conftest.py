"""Classifiers of the small experiment that has finished."""

import shutil
from pathlib import Path

import pytest
from support.trained_runs import FULL, PROMPT

from flax_agnews.trained.classifier import Classifier


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
