"""The registered strategies: how many numbers train at GPT-2's size, ranges of settings, fingerprints."""

import jax
import optax
import pytest
from support import tiny
from support.strategy_sizes import GPT2, trained

from flax_agnews.config import ModelConfig, TrainConfig
from flax_agnews.errors import UserError
from flax_agnews.models.pretrained import Base
from flax_agnews.strategies import REGISTRY, Stage, Strategy
from flax_agnews.strategies.base import settings_of
from flax_agnews.strategies.optim import Plan
from flax_agnews.training.state import set_up

# What trains


@pytest.mark.parametrize(("name", "numbers"), [("full", 124_442_880), ("prompt", 18_432), ("partial", 42_531_840)])
def test_gpt2_trains_as_many_numbers_as_the_experiment_says(name, numbers):
    entry = REGISTRY[name]
    setup, ours = trained(entry.build(entry.settings(), GPT2), GPT2)
    assert ours == numbers
    prompt = 20 * 768 if name == "prompt" else 0
    assert setup.model.total_parameters == 124_442_880 + prompt


# Settings


@pytest.mark.parametrize(
    ("name", "setting", "value", "allowed"),
    [
        ("full", "learning_rate", 0.0, "above 0"),
        ("full", "learning_rate", -1e-5, "above 0"),
        ("full", "learning_rate", float("nan"), "above 0"),
        ("prompt", "learning_rate", 0.0, "above 0"),
        ("prompt", "tokens", 0, r"1 to 101"),  # the vocabulary's size: rows are drawn without repeats
        ("prompt", "tokens", 102, r"1 to 101"),
        ("partial", "learning_rate", 0.0, "above 0"),
        ("partial", "frozen_fraction", -0.1, "0 to 1"),
        ("partial", "frozen_fraction", 1.1, "0 to 1"),
        ("partial", "top_layers", -1, "0 to 3"),
        ("partial", "top_layers", 4, "0 to 3"),
        ("partial", "top_multiplier", 0.0, "above 0"),
        *((name, "learning_rate", 0.0, "above 0") for name in ("head", "bitfit", "norms", "llrd", "gradual")),
        ("llrd", "decay", 0.0, "above 0, at most 1"),
        ("llrd", "decay", 1.1, "above 0, at most 1"),
        ("gradual", "factor", 0.9, "1 or more"),
        ("gradual", "layers", 0, "1 to 3"),
        ("gradual", "layers", 4, "1 to 3"),
        ("gradual", "epochs", 0, "1 or more"),
    ],
)
def test_a_setting_out_of_range_is_named(name, setting, value, allowed):
    with pytest.raises(UserError, match=rf"^{name}\.{setting} {value}: must be .*{allowed}"):
        tiny.build(name, **{setting: value})


@pytest.mark.parametrize("entry", list(REGISTRY), ids=lambda e: e.name)
def test_every_registered_strategy_is_described(entry):
    strategy = entry.build(entry.settings(), GPT2)
    assert strategy.name == entry.name
    assert entry.summary
    assert entry.paper.startswith("https://")
    assert strategy.settings == settings_of(entry.settings())


def test_a_prompt_and_text_above_the_models_positions_is_an_error():
    plan = Plan(10, 10, 8, 3, TrainConfig())
    base = Base("tiny", tiny.CONFIG, {})
    strategy = tiny.build("prompt", tokens=20)
    set_up(strategy, base, 4, plan, ModelConfig(), max_length=236)
    with pytest.raises(UserError, match=r"^data.max_length 237: .*256 positions; at most 236 for strategy prompt$"):
        set_up(strategy, base, 4, plan, ModelConfig(), max_length=237)


def test_the_fingerprint_tells_edited_schemes_apart():
    def fingerprint(strategy):
        return trained(strategy, tiny.CONFIG)[0].model.fingerprint

    same = [fingerprint(tiny.build("partial")) for _ in range(2)]
    edited = [
        fingerprint(tiny.build("partial", learning_rate=6e-5)),
        fingerprint(tiny.build("partial", frozen_fraction=0.0)),
        fingerprint(tiny.build("full")),
        fingerprint(Strategy.by_pattern("partial", {"score": optax.sgd(1.0), "": "frozen"})),
        *(
            fingerprint(Strategy.by_pattern("partial", {"wte": optax.sgd(1.0), "": "frozen"}, stages=stages))
            for stages in ([], [Stage(0, ["wte"])], [Stage(0, ["wte"]), Stage(3, ["wte"])])
        ),
    ]
    assert same[0] == same[1]
    assert len({same[0], *edited}) == 8


def test_adapting_leaves_the_given_model_as_it_is():
    base = tiny.random_base()
    model = base.classifier(4, jax.random.key(0))
    adapted = tiny.build("prompt").adapt(model, jax.random.key(1))
    assert model.prompt is None
    assert model.prompt_tokens == 0
    assert adapted.prompt_tokens == 5
