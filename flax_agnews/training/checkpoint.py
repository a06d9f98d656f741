"""Training state on disk, by Orbax; the only file that knows Orbax.

A folder `step-N` holds the state after N updates, `best-epoch-N` the trainable leaves of the best epoch so far. Beside
each stands a JSON file, written first, so that a folder without it is never taken: the leaves' paths and shapes, and
what the host knows. Orbax sees numbered leaves, since a path may hold what no file name can (a user's label).
"""

import importlib
import logging
import shutil
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from flax_agnews.errors import UserError, first_line, listed
from flax_agnews.files import read_json, write_json

T = TypeVar("T")


class Store:
    """Checkpoints of one run.

    Args:
        folder: `STRATEGY/seed-K/checkpoints`.
        keep: how many states stay. Runs that train together, and are stopped between two saves, need two.
    """

    def __init__(self, folder: Path, keep: int = 1) -> None:
        self.folder, self.keep = folder.absolute(), keep

    def save(self, step: int, state: Any, notes: dict[str, Any]) -> None:
        """Saves a state (any pytree of arrays) and JSON notes, then removes the older ones, and any of a later step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _save(self._folder(step), state, notes)
        kept = [saved for saved in self.steps if saved <= step][-self.keep :]
        for folder in self._folders():
            if int(folder.name[5:]) not in kept:
                _remove(folder)

    @property
    def steps(self) -> list[int]:
        """The steps after which a state is saved, ascending."""
        return [int(path.name[5:]) for path in self._folders() if path.with_suffix(".json").is_file()]

    def restore(self, step: int, example: T) -> tuple[T, dict[str, Any]]:
        """One of the saved states, in the form of `example`, and its notes."""
        return _load(self._folder(step), example)

    def save_best(self, params: Any, epoch: int) -> None:
        """Keeps the trainable leaves of the best epoch so far, and drops those of the one before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        new = self.folder / f"best-epoch-{epoch}"
        _save(new, params, {})
        for old in self.folder.glob("best-epoch-*"):
            if old != new and old.is_dir():
                _remove(old)

    def restore_best(self, example: T, epoch: int) -> T:
        """The trainable leaves of the best epoch."""
        return _load(self.folder / f"best-epoch-{epoch}", example)[0]

    def finish(self) -> None:
        """Drops what only an unfinished run needs: all but the best weights."""
        for path in self._folders():
            _remove(path)

    def _folder(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _folders(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step-*") if p.is_dir() and p.name[5:].isdigit())


def _orbax() -> Any:
    from orbax.checkpoint import v1

    # It warns, at every save without OCDBT, that there is no OCDBT to merge.
    logging.getLogger("absl").setLevel(logging.ERROR)
    # It compares the path with all other processes', whom it then waits for, even where `active_processes` is one.
    execution = importlib.import_module("orbax.checkpoint.experimental.v1._src.saving.execution")
    execution._check_directory_consistency = lambda directory: None  # type: ignore[attr-defined]
    return v1


def _alone(ocp: Any) -> Any:
    """A context in which Orbax doesn't wait for other processes: one saves, each loads when it wants to."""
    me = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
    )
    return ocp.Context(multiprocessing_options=options)


def _save(path: Path, tree: Any, notes: dict[str, Any]) -> None:
    write_json(path.with_suffix(".json"), {"leaves": _described(tree), "notes": notes})
    ocp = _orbax()
    context = _alone(ocp)
    # Float32 weights hardly compress: without compression a save takes a tenth of the time.
    context.array.saving.use_ocdbt = False
    context.array.saving.use_compression = False
    with context:
        ocp.save(path, {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}, overwrite=True)


def _load(path: Path, example: T) -> tuple[T, dict[str, Any]]:
    """A tree in the form of `example`, and its notes. Missing, extra and reshaped leaves are listed."""
    beside = read_json(path.with_suffix(".json")) or {"leaves": {}, "notes": {}}
    found, wanted = beside["leaves"], _described(example)
    if changed := [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]:
        raise UserError(f"{path}: the checkpoint is of another model or strategy: {listed(changed)} differ")
    leaves, structure = jax.tree.flatten(example)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = {str(i): jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device) for i, leaf in enumerate(leaves)}
    try:
        ocp = _orbax()
        with _alone(ocp):
            loaded = ocp.load(path, abstract)
    except Exception as error:  # Orbax and TensorStore raise many kinds on a damaged checkpoint
        raise UserError(
            f"{path}: the checkpoint can't be read ({first_line(error)}); remove it to start that run over"
        ) from error
    return jax.tree.unflatten(structure, [loaded[str(i)] for i in range(len(leaves))]), beside["notes"]


def _described(tree: Any) -> dict[str, list[Any]]:
    """Path -> [shape, type] of every leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): [list(leaf.shape), str(leaf.dtype)] for path, leaf in leaves}


def _remove(path: Path) -> None:
    path.with_suffix(".json").unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
