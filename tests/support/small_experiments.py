"""Experiments that take seconds: their settings, how they are run and read. Of one size, to share compilations."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import yaml

from flax_agnews.cli import arguments as cli
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.parameters import abstract
from flax_agnews.strategies import Strategy
from flax_agnews.training.checkpoint import Store

BODY = {"vocab_size": 300, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
SMOKE = Path(__file__).resolve().parents[2] / "flax_agnews" / "configs" / "smoke.yaml"

# the configuration `smoke`, shrunk further; one device and one shape, so that a strategy compiles in seconds
SMALL = (
    *("--config", str(SMOKE)),
    *("--model.from_config", json.dumps(BODY)),
    *("--data.max_length", "32", "--data.limit_train", "80", "--data.limit_test", "60"),
    *("--report.reference", "none"),  # tested by itself: a second for each
    *("--train.shapes", "1", "--parallel.devices", "1", "--pretrain.epochs", "0"),
)

ONE_LAYER = ("--model.from_config.n_layer", 1)
"""Flags of a small experiment that isn't about layers: it compiles and trains in less time."""


def small(output: Path, *flags: object) -> list[str]:
    """Arguments of a small experiment; `flags` win."""
    return [*SMALL, "--output", str(output), *map(str, flags)]


def head_only() -> Strategy:
    """A strategy of one's own, which isn't registered: the head alone."""
    return Strategy.by_pattern("mine", {r"^score/": optax.adam(1e-2), r".*": "frozen"})


def trained(output: Path) -> None:
    """Runs a small experiment of `full`, `prompt` and `mine`, a seed each.

    The body's weights are so large that texts get different answers though little is learned.
    """
    body = ("--model.from_config", json.dumps({**BODY, "initializer_range": 0.3}))
    request = cli.parse(small(output, *body, "--strategy", "full,prompt", "--train.runs", 1, "--train.epochs", 1))
    Experiment(request.config, [*request.entries, head_only()]).run()


def start(arguments: list[str], environment: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """The command in a process of its own."""
    command = [sys.executable, "-m", "flax_agnews.main", *arguments]
    env = dict(environment or os.environ) | {"PYTHONUNBUFFERED": "1"}
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        command, env=env, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


_TWICE = "import sys; from flax_agnews.main import main; sys.exit(main(sys.argv[1:]) or main(sys.argv[1:]))"


def twice_optimized(arguments: list[str], folder: Path) -> str:
    """What a command prints that is run twice from a folder, with XLA's usual options; both must succeed.

    For output folders made by others: the tests' cheaply compiled programs draw random weights with other last digits.
    """
    root = Path(__file__).resolve().parents[2]
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", _TWICE, *arguments]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def results(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text())


def without_cost(results: Mapping[str, Any]) -> dict[str, Any]:
    """results.json without what varies from time to time: each run's cost."""
    plain = json.loads(json.dumps(results))
    for run in plain.get("runs", [plain]):
        del run["cost"]
    return plain


def metrics(run_folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Lines of metrics.jsonl: those of updates, and those of epochs."""
    lines = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "step" in line], [line for line in lines if "epoch" in line]


def settings(output: Path) -> dict[str, Any]:
    return yaml.safe_load((output / "config.yaml").read_text())


def best_weights(run_folder: Path, classes: int = 4) -> dict[str, np.ndarray]:
    """The best weights of a run of `full` (everything trains), by path."""
    best = json.loads((run_folder / "result.json").read_text())["best_epoch"]
    body = GPT2Config(**settings(run_folder.parents[1])["model"]["from_config"])
    shapes = abstract(lambda: ClassifierModule(body, classes, jax.random.key(0))).shapes
    example = {path: jax.ShapeDtypeStruct(shape, np.float32) for path, shape in shapes.items()}
    restored = Store(run_folder / "checkpoints").restore_best(example, best)
    return {path: np.array(value) for path, value in restored.items()}
