"""Loads a folder of weights, or gives the one line that it is refused with."""

from pathlib import Path

import pytest

from flax_agnews.config import ModelConfig
from flax_agnews.errors import UserError
from flax_agnews.models.pretrained import Base, load_base


def load(folder: Path) -> Base:
    return load_base(ModelConfig(name=str(folder)))


def refusal(folder: Path) -> str:
    """What the error says: one line that names the folder."""
    with pytest.raises(UserError) as caught:
        load(folder)
    message = caught.value.with_flags
    assert "\n" not in message
    assert str(folder) in message
    return message
