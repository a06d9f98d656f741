"""`import flax_agnews as fa`: its names are documented, typed, completed, and imported when they are used."""

import inspect
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import flax_agnews as fa
from flax_agnews.errors import UserError
from flax_agnews.strategies import REGISTRY, Entry

ROOT = Path(__file__).resolve().parents[1]
STRATEGIES = [entry.name for entry in REGISTRY]
SUBMODULES = {path.stem for path in (ROOT / "flax_agnews").iterdir() if path.suffix == ".py" or path.is_dir()}


def run(script: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_all_names_are_there_and_completed() -> None:
    for name in fa.__all__:
        assert getattr(fa, name) is not None
    assert set(fa.__all__) <= set(dir(fa))
    assert sorted(fa.__all__) == sorted(set(fa.__all__))
    assert not hasattr(fa, "fiit")


def test_every_section_of_the_configuration_is_public() -> None:
    sections = {type(getattr(fa.Config(), field.name)) for field in fields(fa.Config)}
    for section in filter(is_dataclass, sections):
        assert getattr(fa, section.__name__) is section


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_registered_strategy_is_public_by_its_name(name: str) -> None:
    assert getattr(fa, name) is REGISTRY[name]
    assert name in fa.__all__


def test_no_name_is_taken_twice() -> None:
    """By a folder or module of the package, whose import would take its place, or by a strategy and something else."""
    others = set(fa.__all__) - set(STRATEGIES)
    assert not set(STRATEGIES) & SUBMODULES
    assert set(STRATEGIES) | others == set(fa.__all__)
    assert others & SUBMODULES == {"evaluate"}


def test_the_function_evaluate_stays_one_when_the_command_is_imported() -> None:
    assert run("import flax_agnews.evaluate as command, flax_agnews as fa; print(fa.evaluate.__module__)") == [
        "flax_agnews.trained.evaluation"
    ]
    assert run("from flax_agnews.evaluate import main; print(main.__module__)") == ["flax_agnews.evaluate"]


def test_a_strategy_that_is_added_is_public_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(REGISTRY, "_entries", dict(REGISTRY._entries))
    REGISTRY.add(Entry("mine", fa.full.settings, fa.full.build, "everything"))
    assert fa.mine.name == "mine"  # type: ignore[attr-defined]
    assert "mine" in dir(fa)


@pytest.mark.parametrize("what", ["dir(fa)", "fa.Config()", "fa.load_results", "fa.write_report", "hasattr(fa, 'x')"])
def test_names_that_need_no_jax_import_none(what: str) -> None:
    assert run(f"import sys, flax_agnews as fa; {what}; print(*(m for m in ('jax', 'flax') if m in sys.modules))") == []


# Documentation


@pytest.mark.parametrize("name", [name for name in fa.__all__ if callable(getattr(fa, name))])
def test_every_public_name_says_what_it_is_and_its_methods_what_they_do(name: str) -> None:
    thing = getattr(fa, name)
    if name == "StrategyLike" or isinstance(thing, Entry):
        return
    assert len(first_line(thing).split()) > 2, name
    if not inspect.isclass(thing):
        assert all(f"{argument.lstrip('*')}" in thing.__doc__ for argument in inspect.signature(thing).parameters)
        return
    for member, value in vars(thing).items():
        if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property | classmethod)):
            assert len(first_line(value).split()) > 2, f"{name}.{member}"


def first_line(thing: object) -> str:
    documented = inspect.getdoc(thing) or ""
    first = documented.split("\n\n")[0]
    assert not first.startswith(getattr(thing, "__name__", "?") + "("), "dataclasses write this one by themselves"
    return first


# Types

SCRIPT = """
from typing import assert_type

import flax_agnews as fa

config = fa.Config(output="runs/mine", train=fa.TrainConfig(epochs=1), parallel=fa.ParallelConfig(devices=1))
assert_type(fa.lora, fa.Entry)
small = fa.lora(rank=4, targets=["c_attn"])
own = fa.Strategy.by_pattern("own", {r"^score/": lambda plan: plan.adamw(1e-3), "": fa.FROZEN})
strategies: list[fa.StrategyLike] = ["full", small, own]
result = fa.fit(small, data="builtin", seed=1, epochs=2)
assert_type(result, fa.Fitted)
assert_type(result.classifier, fa.Classifier)
assert_type(result.classifier.predict(["A text."]), fa.Answers)
assert_type(result.history, fa.History)
assert_type(result.test, fa.Scores)
fa.describe(small, classes=2)
results = fa.Experiment(config, strategies).run()
assert_type(results, fa.Results)
try:
    fa.Classifier.load(result.save("runs/saved"), strategy=own)
except (fa.UserError, fa.Diverged, fa.Stopped, fa.Lost):
    pass
assert_type(fa.evaluate(result.classifier, "test.csv"), fa.Evaluation)
fa.load_results("runs/mine")
"""
WRONG = {
    'fa.fiit("full")': 'Module has no attribute "fiit"',
    "fa.Config(trian=3)": 'Unexpected keyword argument "trian" for "Config"',
    'fa.TrainConfig(schedule="cosin")': 'Argument "schedule" to "TrainConfig" has incompatible type',
    "fa.fit(3)": 'Argument 1 to "fit" has incompatible type "int"',
}

# What the package imports has no part in its public types, and most of the checker's time: it is skipped.
CHECKER = """
[mypy]
ignore_missing_imports = true
follow_imports = skip

[mypy-flax_agnews.*]
follow_imports = silent
"""


def test_a_script_is_type_checked(tmp_path: Path) -> None:
    """Without the package's own source in sight of the checker's strictness: as somebody who has installed it."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + "\n".join(WRONG) + "\n")
    settings = tmp_path / "mypy.ini"
    settings.write_text(CHECKER)
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run([*command, str(script)], cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()[:-1]
    first = len(SCRIPT.splitlines()) + 1
    errors = [line for line in lines if " error: " in line]
    assert [int(line.split(":")[1]) for line in errors] == list(range(first, first + len(WRONG))), done.stdout
    for line, told in zip(errors, WRONG.values(), strict=True):
        assert told in line
    assert (ROOT / "flax_agnews" / "py.typed").exists()


# Mistakes


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"modle": "gpt2"}, r"fit\(modle=\.\.\.\): no such training setting\. Did you mean model\?"),
        ({"epoch": 3}, r"fit\(epoch=\.\.\.\): no such training setting\. Did you mean epochs\?"),
        ({"rank": 4}, r"fit\(rank=4\): is a setting of the strategy: fit\(lora\(rank=\.\.\.\), \.\.\.\)"),
        ({"learning_rate": 1e-3}, r"fit\(learning_rate=0\.001\): is a setting of the strategy: fit\(lora\(learn"),
        ({"max_length": 32}, r"fit\(max_length=\.\.\.\): no such training setting\. It is one of data"),
    ],
)
def test_a_misspelt_or_misplaced_argument_is_named_with_the_right_one(given: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        fa.fit("lora", data="builtin", **given)
