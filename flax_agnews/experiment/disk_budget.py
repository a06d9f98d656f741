"""What a comparison takes on disk: estimated before it starts, and kept small afterwards."""

import math
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from flax_agnews.config import Config
from flax_agnews.errors import UserError
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.results import RunResult
from flax_agnews.system.files import expanded
from flax_agnews.system.text import count
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.state import Setup


def need(config: Config, setups: Sequence[Setup], final: bool | None = None) -> int:
    """Most bytes that weights and states of a whole comparison take in the output folder at one time.

    These are the best weights that stay, with the last states beside them, the states of the runs under way with the
    one being written, and the body where nothing else gives it again.

    Args:
        config: all settings.
        setups: the strategies on the model.
        final: whether last states stay; as `keeps_final` has it by default.
    """
    final = keeps_final(config, setups) if final is None else final
    weights = [4 * setup.trainable_parameters for setup in setups]
    body = sum(value.nbytes for value in setups[0].base.parameters.values())
    given_again = setups[0].base.given_again and not config.pretrain.epochs
    states = [_state_bytes(setup) for setup in setups] if config.checkpoint.enabled else [0]
    adapting = 3 * body if config.pretrain.epochs and config.checkpoint.enabled else 0  # weights and two moments
    # beside the states stand the best weights that each of them counts on
    passing = max(state + best for state, best in zip(states, weights, strict=False)) * config.train.parallel_seeds
    stay = [weight + state for weight, state in zip(weights, states, strict=False)] if final else weights
    kept = {"run": sum(stay) * config.train.runs, "strategy": sum(stay), "all": max(stay)}
    best = kept[config.checkpoint.keep_best] if config.checkpoint.enabled else 0
    return best + (config.checkpoint.keep_last + 1) * max(passing, adapting) + (0 if given_again else body)


def keeps_final(config: Config, setups: Sequence[Setup]) -> bool:
    """Whether the last states of finished runs stay: where they are asked for, and there is room for them."""
    chosen = config.checkpoint
    if not (chosen.enabled and chosen.keep_final):
        return False
    size, folder = need(config, setups, final=True), expanded(config.output)
    return (chosen.gigabytes is None or size <= chosen.gigabytes * 1e9) and size <= _free(folder)


def check_room(config: Config, setups: Sequence[Setup]) -> int:
    """The bytes that it will need; a `UserError` where they are more than there may be, or than there is room for."""
    size, folder = need(config, setups), expanded(config.output)
    lower = "--train.runs, --checkpoint.keep_last, or choose --checkpoint.keep_best all"
    limit = config.checkpoint.gigabytes
    if limit is not None and size > limit * 1e9:
        raise UserError(
            f"--checkpoint.gigabytes {limit:g}: weights and states take up to {count(size)}B. Lower {lower}"
        )
    if size > (free := _free(folder)):
        raise UserError(
            f"--output {folder}: weights and states take up to {count(size)}B, and there is room for {count(free)}B. "
            f"Choose another disk, or lower {lower}"
        )
    return size


def drop_weights(folder: OutputFolder, keep: str, going_on: Collection[tuple[str, int]] = ()) -> None:
    """Removes the weights of finished runs that `checkpoint.keep_best` doesn't name.

    Args:
        folder: the experiment's.
        keep: as `checkpoint.keep_best`.
        going_on: (strategy, seed) of finished runs that have more epochs to go, whose weights stay.
    """
    if keep == "run":
        return
    best: dict[str, RunResult] = {}
    runs = folder.finished([])
    for run in runs:
        group = run.strategy if keep == "strategy" else ""
        if group not in best or run.best_val_accuracy > best[group].best_val_accuracy:
            best[group] = run
    for run in runs:
        if run not in best.values() and (run.strategy, run.seed) not in going_on:
            Store(folder.run(run.strategy, run.seed).path / "checkpoints").clear()


def _state_bytes(setup: Setup) -> int:
    """Of a strategy's training state: trained leaves, and what the optimizer has of them."""
    params = {p: jax.ShapeDtypeStruct(s, jnp.float32) for p, s in setup.frame.shapes.items() if p in setup.trainable}
    leaves = jax.tree.leaves((params, jax.eval_shape(setup.optimizer.init, params)))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def _free(folder: Path) -> int:
    """Bytes that an output folder may take in all, as the disk has it."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(place).free + _taken(folder)


def _taken(folder: Path) -> int:
    """Bytes of weights and states that are in an output folder already."""
    places = [*folder.glob("*/seed-*/checkpoints"), folder / "base", folder / "pretrain"]
    return sum(file.stat().st_size for place in places for file in place.rglob("*") if file.is_file())
