"""The snippets of README and CONTRIBUTING run, and what they say of the package is true."""

import re
import shlex
import types
from pathlib import Path

import pytest

from flax_agnews import export, predict
from flax_agnews.cli import arguments
from flax_agnews.config import Config, DataConfig, ModelConfig
from flax_agnews.evaluate import make_parser as evaluate_parser
from flax_agnews.experiment.description import strategies_table
from flax_agnews.experiment.library import fit
from flax_agnews.strategies import REGISTRY

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
DATA = DataConfig(source="builtin", max_length=32, limit_train=96, limit_test=32)
# Two layers, so that the README's pattern over lower layers, made one of them, leaves one that trains.
SMALL = ModelConfig(from_config={"vocab_size": 400, "n_positions": 96, "n_embd": 16, "n_layer": 2, "n_head": 2})


def _snippets(text):
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_the_readme_strategy_of_ones_own_runs(capsys):
    (code,) = _snippets(README)
    assert len(code.strip().splitlines()) < 15
    smaller = {
        'data="fancyzhx/ag_news", model="gpt2"': "data=DATA, model=SMALL, shapes=1",
        "fa.layers(0, 6)": "fa.layers(0, 1)",
    }
    for large, small in smaller.items():
        assert large in code
        code = code.replace(large, small)
    scope = {"SMALL": SMALL, "DATA": DATA}
    exec(code, scope)
    result = scope["result"]
    assert len(result.history.val_accuracy) == 1
    assert result.logits.shape == (32, 4)
    assert str(result.test.accuracy) in capsys.readouterr().out


def test_the_contributing_strategy_trains_like_any_other():
    (code,) = _snippets((ROOT / "CONTRIBUTING.md").read_text("utf-8"))
    module = types.ModuleType("attention")
    exec(code, module.__dict__)
    REGISTRY.add(module.ATTENTION)
    try:
        request = arguments.parse(["--strategy", "attention", "--attention.learning_rate", "0.01"])
        assert request.config.strategies["attention"].learning_rate == 0.01
        result = fit("attention", data=DATA, model=SMALL, seed=1, epochs=1, shapes=1)
    finally:
        REGISTRY._entries.pop("attention")
    assert 0 <= result.test.accuracy <= 1


def test_the_readme_fits_four_screens():
    assert len(README.splitlines()) <= 130


def test_the_readme_commands_are_real():
    commands = re.findall(r"python -m flax_agnews\.(\w+)([^`\n]*)", README)
    parsers = {"predict": predict.make_parser(), "evaluate": evaluate_parser(), "export": export.make_parser()}
    assert {name for name, _ in commands} - {"X"} == {"main", *parsers}
    for name, flags in commands:
        if name == "main":
            arguments.parse(flags.split())
        elif name in parsers:
            parsers[name].parse_args(shlex.split(flags))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_no_document_speaks_of_files_that_are_not_there(name):
    text = (ROOT / name).read_text("utf-8")
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (ROOT / link).exists(), link


def test_the_readme_lists_every_strategy_with_its_numbers():
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines() if line[:3] == "| `"]
    listed = {row[0].strip("`"): row[1:] for row in rows if len(row) == 5}
    table = strategies_table(Config())
    wanted = list(zip(*([str(cell) for cell in column.cells] for column in table.columns), strict=True))
    assert list(listed) == [name for name, *_ in wanted]
    for name, trains, parameters, rates, _ in wanted:
        assert listed[name][:3] == [trains, parameters, rates]
        assert listed[name][3].endswith(f"({REGISTRY[name].paper})")
