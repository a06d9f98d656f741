"""Runs of several strategies, and their exports."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support.exported_runs import STEEP, Made
from support.small_experiments import BODY, results, small

from flax_agnews import export_run
from flax_agnews.main import main
from flax_agnews.trained.loading import LoadedRun, load_run


@pytest.fixture(scope="session")
def runs(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished runs by strategy; what LoRA and (IA)^3 have learned is much."""
    output = tmp_path_factory.mktemp("adapters") / "out"
    body = ("--model.from_config", json.dumps({**BODY, "initializer_range": 0.3}))
    flags = [
        part
        for name, fields in STEEP.items()
        for field in fields.items()
        for part in (f"--{name}.{field[0]}", field[1])
    ]
    adapters = ("--strategy", "lora,ia3,prefix,adapter", "--train.runs", 1, "--train.epochs", 1)
    assert main(small(output, *body, *adapters, *flags)) == 0
    return {
        run["strategy"]: folder / run["strategy"] / "seed-42"
        for folder in (trained, output)
        for run in results(folder)["runs"]
    }


@pytest.fixture(scope="session")
def made(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Strategy -> its run, exported to Hugging Face; each once."""
    folder, found = tmp_path_factory.mktemp("exports"), {}

    def of(strategy: str) -> Made:
        if strategy not in found:
            export_run(runs[strategy], "hf", folder / strategy)
            found[strategy] = Made(runs[strategy], folder / strategy)
        return found[strategy]

    return of


@pytest.fixture(scope="session")
def full(made: Callable[[str], Made]) -> Made:
    return made("full")


@pytest.fixture(scope="session")
def parts(full: Made) -> LoadedRun:
    return load_run(full.run)
