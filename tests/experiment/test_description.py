"""The description of a strategy: its labels, rates, decay and numbers, also of one from outside the package."""

import importlib.util
import json

import optax
import pytest
from support.small_experiments import BODY, results, settings, small

from flax_agnews.config import ModelConfig
from flax_agnews.errors import UserError
from flax_agnews.experiment.description import describe
from flax_agnews.main import main
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.pretrained import body_shapes
from flax_agnews.strategies import REGISTRY, Strategy, layers

TWELVE = ModelConfig(from_config={"vocab_size": 101, "n_positions": 64, "n_embd": 32, "n_layer": 12, "n_head": 4})


def expanded(parameter):
    """`transformer/h/0-1,5/ln_1/bias` -> its three paths."""
    parts = parameter.split("/")
    if parts[:2] != ["transformer", "h"]:
        return [parameter]
    ends = [run.split("-") for run in parts[2].split(",")]
    every = [layer for run in ends for layer in range(int(run[0]), int(run[-1]) + 1)]
    return ["/".join(["transformer", "h", str(layer), *parts[3:]]) for layer in every]


def by_path(description):
    """Path -> its row."""
    found = [(path, row) for row in description.rows for path in expanded(row.parameter)]
    assert len(dict(found)) == len(found)
    return dict(found)


def rates(description):
    return {path: row.rate for path, row in by_path(description).items()}


# Labels, rates and decay


@pytest.mark.parametrize(("name", "trained"), [("full", 124_442_880), ("partial", 42_531_840), ("head", 3072)])
def test_gpt2s_parameters_are_all_described_without_the_hub(name, trained):
    told = describe(name)
    assert set(by_path(told)) == {*body_shapes(GPT2Config()), "score/kernel"}
    assert sum(row.numbers for row in told.rows) == told.total == 124_442_880
    assert sum(row.numbers for row in told.rows if row.rate) == told.trained == trained
    assert f"{name}: {trained:,} of 124,442,880 parameters train" in str(told)


def test_partials_groups_are_told_by_ranges_of_layers():
    lines = [line.split() for line in str(describe("partial")).splitlines()]
    assert ["transformer/h/0-5/ln_1/bias", "4,608", "frozen", "–", "–"] in lines
    assert ["transformer/h/6-8/ln_1/bias", "2,304", "base", "5e-5", "0.01"] in lines
    assert ["transformer/h/9-11/ln_1/bias", "2,304", "top", "2.5e-4", "0.01"] in lines
    assert ["score/kernel", "3,072", "top", "2.5e-4", "0.01"] in lines


def test_a_strategy_in_stages_tells_from_which_epoch():
    told = describe("gradual", TWELVE)
    epochs = {path: row.epoch for path, row in by_path(told).items() if path.endswith(("c_fc/bias", "wte/embedding"))}
    expected = {f"transformer/h/{layer}/mlp/c_fc/bias": 3 - layer // 4 for layer in range(12)}
    assert epochs == {**expected, "transformer/wte/embedding": 3}
    line = next(line for line in str(told).splitlines() if "h/8-11/mlp/c_fc/bias" in line)
    assert line.split()[-1] == "2"  # epochs are counted from one, as a run's lines have them
    short = by_path(describe("gradual", TWELVE, epochs=2))
    assert short["transformer/h/7/mlp/c_fc/bias"].rate is None
    assert short["transformer/h/8/mlp/c_fc/bias"].rate is not None


WARM = optax.warmup_cosine_decay_schedule(0.0, 3e-3, 50, 400)


@pytest.mark.parametrize(
    ("transformation", "rate", "decay"),
    [
        (optax.sgd(0.3), 0.3, 0.0),
        (optax.sgd(0.3, momentum=0.9), 0.3, 0.0),
        (optax.adam(2e-4), 2e-4, 0.0),
        (optax.adamw(2e-4), 2e-4, 1e-4),  # optax's default
        (optax.lion(1e-5, weight_decay=0.1), 1e-5, 0.1),
        (optax.adamw(WARM, weight_decay=0.3), 3e-3, 0.3),
        (optax.lion(WARM, weight_decay=0.3), 3e-3, 0.3),
        (optax.sgd(WARM), 3e-3, 0.0),
        (optax.adafactor(2e-2), 2e-2, 0.0),
        (lambda plan: plan.adamw(7e-4), 7e-4, 0.02),
    ],
)
def test_rate_and_decay_of_any_transformation(transformation, rate, decay):
    strategy = Strategy.by_pattern("mine", {layers(2, 5): transformation, "": "frozen"})
    told = by_path(describe(strategy, TWELVE, weight_decay=0.02, warmup_fraction=0.1))
    assert {path.split("/")[2] for path, row in told.items() if row.rate is not None} == {"2", "3", "4"}
    for row in told.values():
        if row.rate is not None:
            assert row.rate == pytest.approx(rate, rel=1e-4)
            assert row.decay == pytest.approx(decay, rel=1e-3)


def test_a_mask_of_decay_is_seen():
    told = by_path(describe("full", TWELVE, weight_decay_mask="matrices"))
    assert {path: row.decay > 0 for path, row in told.items()} == {
        path: path.endswith(("kernel", "embedding")) for path in told
    }


def test_a_strategy_that_does_not_fit_is_an_error():
    with pytest.raises(UserError, match=r"strategy mine: .*\(12\).* matches no parameter"):
        describe(Strategy.by_pattern("mine", {layers(12, 13): "frozen", "": optax.sgd(1.0)}), TWELVE)
    with pytest.raises(UserError, match=r"^strategy fulll: no such strategy\. Did you mean full"):
        describe("fulll", TWELVE)


# --list_strategies


def listing(capsys, *flags):
    """The table's lines, by strategy."""
    assert main(["--list_strategies", *map(str, flags)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return {line.split()[0]: " ".join(line.split()) for line in out.splitlines() if line.strip()}


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.usefixtures("wide")
def test_every_strategy_is_listed(capsys):
    lines = listing(capsys)
    for entry in REGISTRY:
        assert entry.summary in lines[entry.name]
        assert entry.paper, entry.name
        assert lines[entry.name].endswith(entry.paper.rsplit("/", 1)[1])
    assert " 124,442,880 5e-5 " in lines["full"]
    assert " 18,432 5e-4 " in lines["prompt"]
    assert " 42,531,840 5e-5, 2.5e-4 " in lines["partial"]
    assert f" {12 * 11 * 768 + 768 + 3072:,} " in lines["bitfit"]
    assert f" {25 * 2 * 768 + 3072:,} " in lines["norms"]
    assert " 2.7e-5 to 5e-5 " in lines["llrd"]  # 5e-5 * 0.95 ** 12


@pytest.mark.usefixtures("wide")
def test_the_list_is_of_the_chosen_model_and_settings(capsys):
    flags = ("--model.from_config", json.dumps(BODY), "--head.learning_rate", 0.125, "--train.epochs", 1)
    lines = listing(capsys, *flags)
    width, n_layer = BODY["n_embd"], BODY["n_layer"]
    assert lines["head"].startswith(f"head head {4 * width} 0.125 ")
    assert f" {n_layer * 11 * width + width + 4 * width:,} " in lines["bitfit"]
    assert f" {2 * width + 4 * width} " in lines["gradual"]  # in one epoch, it doesn't get below the head


def test_a_model_that_is_not_there_is_an_error(capsys, tmp_path):
    assert main(["--list_strategies", "--model.name", str(tmp_path / "none")]) == 2
    assert "no such directory" in capsys.readouterr().err


# A strategy from outside the package

OUTSIDE = '''
"""The MLPs of the upper layers, and the head."""

from dataclasses import dataclass

from flax_agnews import Entry, Strategy, layers


@dataclass
class UpperSettings:
    """Upper layers.

    Args:
        learning_rate: of all that trains.
        lowest: layer that trains.
    """

    learning_rate: float = 2e-3
    lowest: int = 1


def build(settings, config):
    rate = lambda plan: plan.adamw(settings.learning_rate)
    return Strategy.by_pattern("upper", {
        layers(settings.lowest, config.n_layer) + "mlp/": rate,
        "^score/": rate,
        "": "frozen",
    })


UPPER = Entry("upper", UpperSettings, build, "upper MLPs and head", "https://example.org/upper")
'''


@pytest.fixture
def upper(tmp_path):
    """The file, registered by its one line."""
    path = tmp_path / "upper.py"
    path.write_text(OUTSIDE)
    spec = importlib.util.spec_from_file_location("upper", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    REGISTRY.add(module.UPPER)
    yield
    REGISTRY._entries.pop("upper")


@pytest.mark.usefixtures("upper", "wide")
def test_a_file_from_outside_gets_flags_training_and_its_place_in_the_report(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["--help", "upper"])
    text = capsys.readouterr().out
    assert "--upper.lowest INT" in text
    assert "layer that trains" in text
    assert "example.org/upper" in listing(capsys, "--upper.lowest", 3)["upper"]
    output = tmp_path / "out"
    flags = ("--strategy", "upper", "--upper.learning_rate", 0.125, "--train.runs", 1, "--train.epochs", 1)
    assert main(small(output, *flags)) == 0
    [run] = results(output)["runs"]
    width = BODY["n_embd"]
    assert run["strategy"] == "upper"
    assert run["trainable_parameters"] == 8 * width**2 + 5 * width + 4 * width
    assert "upper" in (output / "report.md").read_text()
    assert settings(output)["upper"] == {"learning_rate": 0.125, "lowest": 1}
    assert main(small(tmp_path / "wrong", "--upper.lowst", 1)) == 2
    assert "Did you mean --upper.lowest" in capsys.readouterr().err
