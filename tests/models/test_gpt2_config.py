"""The configuration of a body, read without JAX: it knows the names of what the modules compute."""

from flax_agnews.models.gpt2 import ACTIVATIONS
from flax_agnews.models.gpt2_config import ACTIVATION_NAMES


def test_each_named_activation_is_computed():
    assert set(ACTIVATION_NAMES) == set(ACTIVATIONS)
