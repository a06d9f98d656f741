"""Disk space of an experiment: estimates it before the start, and removes weights that needn't be kept."""

import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from flax_agnews.config import Config
from flax_agnews.errors import UserError, flag
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.results import RunResult
from flax_agnews.system.files import expanded
from flax_agnews.system.text import count
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.state import Setup


def need(
    config: Config,
    setups: Sequence[Setup],
    runs: Mapping[str, int] | None = None,
    at_once: int = 1,
    final: bool | None = None,
) -> int:
    """The most bytes that an experiment's weights and checkpoints take in the output folder at one time.

    Counted are the best weights and last states of finished runs, the checkpoints of the runs that are training, with
    the one being written, and the body where it can't be loaded or made again from elsewhere.

    Args:
        config: all settings.
        setups: the strategies on the model.
        runs: name of a strategy -> number of its runs; by default `train.runs`.
        at_once: number of jobs (runs that train together) that train at the same time, on other devices.
        final: whether the last states of finished runs are kept; by default the result of `keeps_final`.
    """
    body = sum(value.nbytes for value in setups[0].model.base.parameters.values())
    given_again = setups[0].model.base.given_again and not config.pretrain.epochs
    body_kept = 0 if given_again else body
    if not config.checkpoint.enabled:
        return body_kept
    final = keeps_final(config, setups, runs, at_once) if final is None else final
    weights = [4 * setup.trainable_parameters for setup in setups]
    states = [weight + setup.optimizer_bytes for weight, setup in zip(weights, setups, strict=True)]
    adapting = 3 * body if config.pretrain.epochs else 0  # weights and two moments
    # each state is saved beside the best weights that it refers to
    passing = max(state + best for state, best in zip(states, weights, strict=True))
    passing *= config.train.parallel_seeds * at_once
    stay = [weight + state for weight, state in zip(weights, states, strict=True)] if final else weights
    numbers = [config.train.runs if runs is None else runs[setup.name] for setup in setups]
    every = sum(size * number for size, number in zip(stay, numbers, strict=True))
    kept = {"run": every, "strategy": sum(stay), "all": max(stay)}
    return kept[config.checkpoint.keep_best] + (config.checkpoint.keep_last + 1) * max(passing, adapting) + body_kept


def keeps_final(
    config: Config, setups: Sequence[Setup], runs: Mapping[str, int] | None = None, at_once: int = 1
) -> bool:
    """Whether the last states of finished runs are kept: if the settings ask for it and there is room for them."""
    chosen = config.checkpoint
    if not (chosen.enabled and chosen.keep_final):
        return False
    size, folder = need(config, setups, runs, at_once, final=True), expanded(config.output)
    return (chosen.gigabytes is None or size <= chosen.gigabytes * 1e9) and size <= _free(folder)


def check_room(config: Config, setups: Sequence[Setup], runs: Mapping[str, int] | None = None, at_once: int = 1) -> int:
    """Returns the most bytes that an experiment takes; a `UserError` where the settings or the disk have less."""
    size, folder = need(config, setups, runs, at_once), expanded(config.output)
    lower = f"{flag('train.runs')}, {flag('checkpoint.keep_last')}, or choose {flag('checkpoint.keep_best')} all"
    limit = config.checkpoint.gigabytes
    if limit is not None and size > limit * 1e9:
        raise UserError(
            f"{flag('checkpoint.gigabytes')} {limit:g}: weights and states take up to {count(size)}B. Lower {lower}"
        )
    if size > (free := _free(folder)):
        raise UserError(
            f"{flag('output')} {folder}: weights and states take up to {count(size)}B, and there is room for "
            f"{count(free)}B. Choose another disk, or lower {lower}"
        )
    return size


def drop_weights(folder: OutputFolder, keep: str, going_on: Collection[tuple[str, int]] = ()) -> None:
    """Removes the weights of finished runs that `checkpoint.keep_best` doesn't keep.

    Args:
        folder: the experiment's output folder.
        keep: the setting `checkpoint.keep_best`.
        going_on: (strategy, seed) of finished runs that have epochs left, whose weights are kept.
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


def _free(folder: Path) -> int:
    """Bytes that an output folder may take on its disk: the free ones, and those that its weights take now."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(place).free + _taken(folder)


def _taken(folder: Path) -> int:
    """Bytes of the weights and checkpoints in an output folder now."""
    places = [*folder.glob("*/seed-*/checkpoints"), folder / "base", folder / "pretrain"]
    return sum(file.stat().st_size for place in places for file in place.rglob("*") if file.is_file())
