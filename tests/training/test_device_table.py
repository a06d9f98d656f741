"""The table of devices: against what was measured on one of them."""

import numpy as np
import pytest
from support.strategy_sizes import GPT2, trained

from flax_agnews.strategies import REGISTRY
from flax_agnews.training.device_table import KINDS
from flax_agnews.training.flops import Amount, training_flops


def test_an_h200_trains_as_many_tokens_a_second_as_was_measured() -> None:
    """GPT-2 124M in bfloat16, 26,700 tokens an update: 421,000 a second (benchmarks/results/gpu.md)."""
    full = REGISTRY["full"]
    setup, _ = trained(full.build(full.settings(), GPT2), GPT2)
    lengths = np.full(512, 52)
    seconds = training_flops(setup, Amount.of(lengths)) / KINDS["h200"].rate(GPT2, "bfloat16")
    assert lengths.sum() / seconds == pytest.approx(421_000, rel=0.1)


def test_narrow_models_and_older_devices_are_slower() -> None:
    rates = [KINDS[name].rate(GPT2, "bfloat16") for name in ("h200", "h100", "a100")]
    assert rates == sorted(rates, reverse=True)
    assert KINDS["h200"].rate(GPT2, "float32") == rates[0] / 2
