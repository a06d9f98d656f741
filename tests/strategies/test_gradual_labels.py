"""Gradual unfreezing: which parameters train from which epoch, and at which rates."""

import pytest
from support import tiny
from support.strategy_sizes import CONFIGS, every_config, group_of, layer_size, planned, rates_of


@every_config
@pytest.mark.parametrize("each", [1, 2, 3, None])
@pytest.mark.parametrize("wait", [1, 2])
def test_gradual_begins_with_the_head_and_goes_down(config, each, wait):
    layers = config.n_layer
    if each is not None and each > layers:
        pytest.skip("a group has no more layers than the model")
    setup = planned(tiny.build("gradual", config, layers=each, epochs=wait), config, epochs=30)
    expected = {path: group_of(path, layers, each or -(-layers // 3)) for path in setup.model.shapes}
    groups = 1 + max(expected.values())
    assert [span.first for span in setup.spans] == [wait * group for group in range(groups)]
    for number, stage in enumerate(setup.stages):
        assert stage.learning == stage.trainable == {path for path, group in expected.items() if group <= number}
    assert setup.trainable == set(setup.model.shapes)
    assert [setup.stage_of(epoch) for epoch in range(2 * wait)] == [0] * wait + [1] * wait
    assert each is not None or groups <= 4


def test_gradual_trains_what_the_run_reaches():
    config = CONFIGS[3]  # five layers
    setup = planned(tiny.build("gradual", config, layers=2), config, epochs=2)
    assert setup.trainable == setup.stages[-1].learning
    assert setup.trainable_parameters == 2 * layer_size(config.n_embd) + 2 * config.n_embd + 4 * config.n_embd
    assert {path for path in setup.trainable if "/h/" in path} == {
        path for path in setup.model.shapes if path.startswith(("transformer/h/3/", "transformer/h/4/"))
    }


def test_graduals_rates_are_those_of_the_run_when_a_group_begins():
    config = tiny.CONFIG  # three layers: four groups of one
    strategy = tiny.build("gradual", config, learning_rate=1e-2, layers=1, factor=2.6)
    constant = planned(strategy, config)
    for path, rate in rates_of(constant).items():
        assert rate == pytest.approx(1e-2 / 2.6 ** group_of(path, 3, 1), rel=1e-5), path
    falling = rates_of(planned(strategy, config, schedule="linear"))  # 40 steps, a group begins after each 10
    for path, rate in falling.items():
        group = group_of(path, 3, 1)
        assert rate == pytest.approx(1e-2 / 2.6**group * (1 - group / 4), rel=1e-5), path
