"""Full fine-tuning trains every parameter."""

import pytest
from support import tiny
from support.strategy_sizes import CONFIGS, body_size, trained


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.n_layer}x{c.n_embd}")
@pytest.mark.parametrize("classes", [2, 7])
def test_full_trains_everything(config, classes):
    setup, ours = trained(tiny.build("full", config), config, classes)
    assert ours == setup.model.total_parameters == body_size(config) + classes * config.n_embd
