"""A random GPT-2 and its folder of weights."""

from pathlib import Path
from typing import Any

import pytest
from support.reference import random_gpt2, saved


@pytest.fixture(scope="module")
def model() -> Any:
    return random_gpt2()


@pytest.fixture
def folder(model: Any, tmp_path: Path) -> Path:
    """A model's folder as transformers writes it, to be changed."""
    return Path(saved(model, tmp_path / "model"))
