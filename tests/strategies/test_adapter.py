"""Bottleneck adapters: where they are, and their first values."""

import numpy as np
import pytest
from support import tiny
from support.added_parameters import adapted, weights_of
from support.strategy_sizes import every_config, trained


@every_config
@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
def test_adapters_are_behind_projections(config, placement):
    setup, _ = trained(tiny.build("adapter", config, placement=placement, reduction=4, top_layers=1), config)
    top, width = config.n_layer - 1, config.n_embd
    projections = ["attn", "mlp"] if placement == "houlsby" else ["mlp"]
    bottlenecks = [f"transformer/h/{top}/{part}/c_proj/adapter_{way}" for part in projections for way in ("down", "up")]
    norms = [f"transformer/h/{top}/ln_1", f"transformer/h/{top}/ln_2", "transformer/ln_f"]
    expected = {f"{path}/{leaf}" for path in bottlenecks for leaf in ("kernel", "bias")} | {"score/kernel"}
    if placement == "houlsby":
        expected |= {f"{path}/{leaf}" for path in norms for leaf in ("scale", "bias")}
    assert setup.trainable == expected
    assert setup.model.shapes[bottlenecks[0] + "/kernel"] == (width, width // 4)
    assert setup.model.shapes[bottlenecks[1] + "/kernel"] == (width // 4, width)


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
def test_adapters_begin_near_the_identity(placement):
    _, model = adapted("adapter", placement=placement, reduction=1)
    kernels = {p: np.asarray(v) for p, v in weights_of(model).items() if "adapter_" in p and p.endswith("kernel")}
    for path, kernel in kernels.items():  # N(0, 0.01) cut at two deviations has 0.88 of its deviation
        assert 0.01 < np.abs(kernel).max() <= 0.02, path
        assert kernel.std() == pytest.approx(0.0088, rel=0.1), path
