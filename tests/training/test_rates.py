"""Learning rates: those read from AdamW are those that its updates have."""

import optax
import pytest

from flax_agnews.config import ModelConfig, TrainConfig
from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.models.pretrained import Base
from flax_agnews.strategies import REGISTRY
from flax_agnews.strategies.plan import Plan
from flax_agnews.training.adapted_model import adapt_model
from flax_agnews.training.rates import measured_rates, nominal_plan, read_rates

BODY = GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=3, n_head=2)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("mask", ["all", "matrices"])
@pytest.mark.parametrize("entry", list(REGISTRY), ids=lambda entry: entry.name)
def test_what_is_read_is_what_the_updates_have(entry, mask, schedule):
    train = TrainConfig(weight_decay=0.3, weight_decay_mask=mask, schedule=schedule)
    strategy, plan = entry.build(entry.settings(), BODY), nominal_plan(BODY.n_layer, train)
    model = adapt_model(strategy, Base("shapes", BODY, {}), 2, ModelConfig())
    for label, transform in strategy.transforms(plan).items():
        # A leaf of each label and number of axes is enough: the others are treated alike.
        own = {len(shape): path for path, shape in model.shapes.items() if model.labels[path] == label}
        shapes = {path: model.shapes[path] for path in own.values()}
        read, measured = read_rates(transform, shapes), measured_rates(transform, shapes, plan)
        assert set(read) == set(measured) == set(shapes)
        for path in shapes:
            assert read[path] == pytest.approx(measured[path], rel=1e-4)


def test_other_transformations_and_a_first_rate_of_zero_are_measured():
    shapes = {"score/kernel": (4, 2)}
    assert read_rates(optax.adamw(0.1), shapes) == {}
    warm = Plan(steps=40, steps_per_epoch=10, batch_size=8, layers=1, train=TrainConfig(warmup_fraction=0.5))
    assert read_rates(warm.adamw(0.1), shapes) == {}
    assert measured_rates(warm.adamw(0.1), shapes, warm)["score/kernel"][0] == pytest.approx(0.1, rel=1e-4)
