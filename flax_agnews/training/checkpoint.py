"""Checkpoints on disk, written and read by Orbax; the only file that calls Orbax.

A folder `step-N` has the state after N updates, `best-epoch-N` the trainable leaves of the best epoch so far. Each has
Orbax's arrays, a JSON file (paths and shapes of the leaves, and notes) and, written last, a manifest of both. Orbax
gets numbers instead of the leaves' paths, which may have characters that file names can't (in a user's label).
"""

import itertools
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from flax_agnews.errors import UserError, first_line, listed
from flax_agnews.runs import sealed
from flax_agnews.system.files import read_json, write_json
from flax_agnews.training.disk_writes import check_room, watched
from flax_agnews.training.private_apis import skip_directory_comparison
from flax_agnews.training.saving import Sign

T = TypeVar("T")

_numbers = itertools.count()
_drafts: set[Path] = set()  # folders that threads of this process are writing, hanging ones included


class Store:
    """The checkpoints of one run.

    Args:
        folder: `STRATEGY/seed-K/checkpoints`.
        keep: number of newest states to keep; with only one, there is none to fall back to if it is damaged.
        note: called with a message about each damaged checkpoint.
        held: epoch of best weights to keep until `finish`, even if no state refers to them; 0 for none.
    """

    def __init__(
        self, folder: Path, keep: int = 2, note: Callable[[str], None] = lambda text: None, held: int = 0
    ) -> None:
        self.folder, self.keep, self._note, self._held = folder.absolute(), keep, note, held
        self._sound: dict[Path, bool] = {}

    def save(self, step: int, state: Any, notes: dict[str, Any], sign: Sign = lambda: None) -> None:
        """Saves a state (a pytree of arrays) with JSON notes; removes older ones, and best weights without a state."""
        self._write(self._step(step), state, notes, sign)
        kept = self.steps[-self.keep :]
        counted_on = {_notes(self._step(saved)).get("best_epoch", 0) for saved in kept}
        needed = {*map(self._best, (*counted_on, self._held)), *map(self._step, kept)}
        for folder in [*self._folders("step-"), *self._folders("best-epoch-")]:
            if folder not in needed:
                sign()
                sealed.discard(folder)

    def save_best(
        self, params: Any, epoch: int, about: Mapping[str, Any] | None = None, sign: Sign = lambda: None
    ) -> None:
        """Saves the trainable leaves of the best epoch so far, with JSON notes that loading them needs."""
        self._write(self._best(epoch), params, dict(about or {}), sign)

    @property
    def steps(self) -> list[int]:
        """The steps of the saved states, ascending, damaged ones included."""
        return [int(path.name[5:]) for path in self._folders("step-")]

    def sound(self, step: int) -> bool:
        """Whether a saved state, and the best weights that it refers to, are undamaged, by hashes of all bytes.

        Reports a damaged one and sets it aside.
        """
        if not self._intact(self._step(step)):
            return False
        best = _notes(self._step(step)).get("best_epoch", 0)
        return not best or self._intact(self._best(best))

    def restore(self, step: int, example: T, later: Collection[str] = ()) -> tuple[T, dict[str, Any]]:
        """Reads a saved state, in the form of `example`, and its notes.

        Args:
            step: the step of the state.
            example: a state with the same structure, shapes and types.
            later: paths of parameters that only train in a later stage; where the saved state lacks leaves of them,
                the example's are taken.
        """
        return _load(self._step(step), example, later)

    def restore_best(self, example: T, epoch: int, later: Collection[str] = ()) -> T:
        """Reads the trainable leaves of the best epoch, as `restore`; raises a `UserError` if they are damaged."""
        folder = self._best(epoch)
        if reason := sealed.damage(folder):
            raise UserError(f"{folder}: the weights are damaged ({reason}). Remove {self.folder.parent} to train anew")
        return _load(folder, example, later)[0]

    def best_is_whole(self, example: Any, epoch: int) -> bool:
        """Whether the best weights of an epoch have each leaf of `example`."""
        return (read_json(self._best(epoch) / _JSON) or {}).get("leaves", {}).keys() >= _described(example).keys()

    def drop_after(self, step: int) -> None:
        """Removes the states after a step, which only some of the runs that train together have."""
        for later in self.steps:
            if later > step:
                sealed.discard(self._step(later))

    def about_best(self, epoch: int) -> dict[str, Any] | None:
        """The notes of an epoch's best weights, not verified (`restore_best` does that); None if there are none."""
        folder = self._best(epoch)
        return _notes(folder) if folder.exists() else None

    def finish(self, epoch: int, step: int | None = None) -> None:
        """Removes what only an unfinished run needs: all but the best weights and, if a step is given, its state."""
        stays = {self._best(epoch), *([] if step is None else [self._step(step)])}
        for folder in [*self._folders("step-"), *self._folders("best-epoch-")]:
            if folder not in stays:
                sealed.discard(folder)
        self._sweep()

    def clear(self) -> None:
        """Removes everything."""
        self._sweep("*")
        with suppress(OSError):  # the folder doesn't exist, or has the draft of a hanging write
            self.folder.rmdir()

    def _write(self, folder: Path, tree: Any, notes: dict[str, Any], sign: Sign) -> None:
        self._sweep()
        self.folder.mkdir(parents=True, exist_ok=True)
        check_room(self.folder, [np.asarray(leaf).nbytes for leaf in jax.tree.leaves(tree)])
        draft = self.folder / f".{folder.name}.{os.getpid()}.{next(_numbers)}.draft"
        _drafts.add(draft)
        try:
            draft.mkdir(parents=True)
            with watched(draft, sign):
                _save(draft, tree, notes)
            sealed.seal(draft, folder, sign)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        finally:
            _drafts.discard(draft)
        self._sound[folder] = True

    def _sweep(self, what: str = ".*") -> None:
        """Removes what killed processes left unfinished, but not what a thread of this process is writing."""
        for path in set(self.folder.glob(what)) - _drafts:
            shutil.rmtree(path, ignore_errors=True)

    def _intact(self, folder: Path) -> bool:
        if folder not in self._sound:
            reason = sealed.damage(folder) if folder.exists() else "is missing"
            self._sound[folder] = not reason
            if reason and folder.exists():
                aside = sealed.set_aside(folder)
                self._note(f"{folder}: damaged, {reason}; set aside as {aside.name}")
            elif reason:
                self._note(f"{folder}: {reason}")
        return self._sound[folder]

    def _step(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _best(self, epoch: int) -> Path:
        return self.folder / f"best-epoch-{epoch}"

    def _folders(self, kind: str) -> list[Path]:
        return sorted(p for p in self.folder.glob(f"{kind}*") if p.name[len(kind) :].isdigit() and p.is_dir())


def newest(stores: Sequence[Store]) -> int:
    """The newest step at which all runs that train together have an undamaged state; 0 if there is none."""
    steps = set.intersection(*(set(store.steps) for store in stores)) if stores else set()
    return next((step for step in sorted(steps, reverse=True) if all(store.sound(step) for store in stores)), 0)


def snapshot(tree: T) -> T:
    """Copies a pytree's arrays to the host, since the next update overwrites those on the device."""
    return jax.tree.map(lambda leaf: np.array(leaf), tree)


def all_finite(tree: Any) -> bool:
    """Whether every number of host arrays is finite."""
    return all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


_ARRAYS, _JSON = "arrays", "state.json"


def _notes(folder: Path) -> dict[str, Any]:
    """The notes of a checkpoint folder; empty if they can't be read."""
    try:
        return dict((read_json(folder / _JSON) or {})["notes"])
    except (UserError, TypeError, KeyError, ValueError):
        return {}


@cache
def _orbax() -> Any:
    from orbax.checkpoint import v1

    # Without OCDBT, Orbax warns at every save that there is nothing to merge; it also logs errors that it raises.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    others = threading.excepthook
    threading.excepthook = lambda args: None if "orbax" in type(args.thread).__module__ else others(args)
    # When several writes fail, Orbax awaits only the first; the others report this error, which means nothing.
    rest = sys.unraisablehook
    sys.unraisablehook = lambda args: None if str(args.exc_value) == "Event loop is closed" else rest(args)
    if jax.process_count() > 1:
        skip_directory_comparison()
    return v1


def _context() -> Any:
    """Context of Orbax in which only this process takes part: one process writes for all, each reads for itself."""
    ocp, here = _orbax(), jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"process_{here}"
    )
    # A save waits for its end anyway. In the background, folders are sometimes created twice, which removes what was
    # written between (Orbax 0.12.8: two threads await one `PathAwaitingCreation`, whose lock is of one event loop).
    at_once = ocp.options.AsyncOptions(create_directories_asynchronously=False)
    context = ocp.Context(multiprocessing_options=alone, async_options=at_once)
    # Float32 weights hardly compress: without compression a save takes a tenth of the time.
    context.array.saving.use_ocdbt = False
    context.array.saving.use_compression = False
    return context


def _save(folder: Path, tree: Any, notes: dict[str, Any]) -> None:
    write_json(folder / _JSON, {"leaves": _described(tree), "notes": notes})
    with _context():
        leaves = {str(number): np.asarray(leaf) for number, leaf in enumerate(jax.tree.leaves(tree))}
        _orbax().save(folder / _ARRAYS, leaves)


def _load(folder: Path, example: T, later: Collection[str] = ()) -> tuple[T, dict[str, Any]]:
    """Reads a tree in the form of `example`, and its notes; an error lists missing, extra and reshaped leaves."""
    beside = read_json(folder / _JSON) or {}
    found, wanted = beside.get("leaves", {}), _described(example)
    absent = {name for name in wanted if name not in found and any(f"[{path!r}]" in name for path in later)}
    changed = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    if changed := [name for name in changed if name not in absent]:
        raise UserError(f"{folder}: the checkpoint is of another model or strategy: {listed(changed)} differ")
    leaves, structure = jax.tree.flatten(example)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    numbers = {name: str(number) for number, name in enumerate(found)}  # as in `_save`
    named = dict(zip(wanted, leaves, strict=True))
    abstract = {
        numbers[name]: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device if _whole(leaf) else leaf.sharding)
        for name, leaf in named.items()
        if name in numbers
    }
    try:
        with _context():
            loaded = _orbax().load(folder / _ARRAYS, abstract)
    except Exception as error:  # Orbax and TensorStore raise many kinds on a damaged checkpoint
        raise UserError(
            f"{folder}: the checkpoint can't be read ({first_line(error)}); remove it to start that run over"
        ) from error
    taken = [loaded[numbers[name]] if name in numbers else leaf for name, leaf in named.items()]
    return jax.tree.unflatten(structure, taken), beside["notes"]


def _whole(leaf: Any) -> bool:
    """Whether a device holds all of an array, or the host does; otherwise each device reads its part."""
    return not isinstance(leaf, jax.Array) or leaf.is_fully_replicated


def _described(tree: Any) -> dict[str, list[Any]]:
    """Path -> [shape, type] of every leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): [list(leaf.shape), str(leaf.dtype)] for path, leaf in leaves}
