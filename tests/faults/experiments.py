"""Experiments that are killed, and the comparison of their ends with an undisturbed one's."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from support.small_experiments import results, small, without_cost

from flax_agnews.training.checkpoint import Store

# Dropout, packing, language modelling first, a cache of frozen layers (`partial`), and updates enough for a kill.
FLAGS = (
    *("--strategy", "full,partial,prompt", "--train.runs", 1, "--train.epochs", 2, "--train.batch_size", 4),
    *("--data.limit_train", 400, "--pretrain.epochs", 1, "--pretrain.batch_size", 4, "--checkpoint.every_steps", 30),
)
STRATEGIES = ("full", "partial", "prompt")
SECONDS = 240  # until a busy machine has imported and compiled


def arguments(output: Path, *flags: object) -> list[str]:
    return small(output, *FLAGS, *flags)


def killed(where: str, output: Path, cache: Path, *flags: object) -> int:
    """Runs the command until it is killed at a place, as `killed.py` says; returns its exit code."""
    script = Path(__file__).with_name("killed.py")
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"FLAX_AGNEWS_CACHE": str(cache), "PYTHONPATH": str(root)}
    command = [sys.executable, str(script), where, *arguments(output, *flags)]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode in (0, -9), done.stdout + done.stderr
    return done.returncode


def assert_same_end(output: Path, reference: Path) -> None:
    """Every metric, every prediction and every byte of the best weights; times apart."""
    assert without_cost(results(output)) == without_cost(results(reference))
    for name in STRATEGIES:
        ours, theirs = (folder / name / "seed-42" for folder in (output, reference))
        for file in ("metrics.jsonl", "predictions.parquet"):
            assert (ours / file).read_bytes() == (theirs / file).read_bytes(), name
        assert arrays(ours / "checkpoints") == arrays(theirs / "checkpoints"), name
        kept = sorted(path.name for path in ours.rglob("*") if path.is_dir() or path.suffix in (".json", ".tmp"))
        assert kept == sorted(p.name for p in theirs.rglob("*") if p.is_dir() or p.suffix in (".json", ".tmp")), name
    body = "base/model.safetensors"
    assert (output / body).read_bytes() == (reference / body).read_bytes()
    top = [sorted(path.name for path in folder.iterdir()) for folder in (output, reference)]
    assert top[0] == top[1]


def arrays(folder: Path) -> dict[str, bytes]:
    """Every array's bytes; Orbax's notes beside them have the time in them."""
    named = ((path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("*")) if path.is_file())
    return {name: path.read_bytes() for name, path in named if "arrays/state/" in name and path.name[0] != "_"}


def sound_steps(output: Path) -> dict[str, list[int]]:
    """The states of every run that verify."""
    found = {}
    for folder in sorted(output.glob("*/seed-*/checkpoints")):
        store = Store(folder)
        found[str(folder.parent.relative_to(output))] = [step for step in store.steps if store.sound(step)]
    return found


def assert_states_are_of(output: Path, reference: Path) -> int:
    """Each saved state has the bytes of the uninterrupted run's state of that step; returns how many there are."""
    compared = 0
    for run, steps in sound_steps(output).items():
        for step in steps:
            name = f"step-{step:08d}"
            ours, theirs = (arrays(folder / run / "checkpoints" / name) for folder in (output, reference))
            assert ours == theirs, (run, step)
            assert len(ours) > 3
            compared += 1
    return compared


def lines(output: Path) -> int:
    """Lines of all metrics so far."""
    return sum(path.read_bytes().count(b"\n") for path in output.glob("*/seed-*/metrics.jsonl"))


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
