"""Layer-wise learning rate decay: the rate of every parameter."""

import pytest
from support import tiny
from support.strategy_sizes import every_config, planned, rates_of


@every_config
@pytest.mark.parametrize("decay", [0.95, 0.5, 1.0])
def test_llrds_rate_of_every_leaf(config, decay):
    rates = rates_of(planned(tiny.build("llrd", config, learning_rate=2e-3, decay=decay), config))
    for path, rate in rates.items():
        parts = path.split("/")
        if parts[1] == "h":
            below_top = config.n_layer - 1 - int(parts[2])
        else:
            below_top = config.n_layer if parts[1] in ("wte", "wpe") else 0
        assert rate == pytest.approx(2e-3 * decay**below_top, rel=1e-5), path  # Adam's epsilon and float32
    assert len(rates) == 12 * config.n_layer + 5
