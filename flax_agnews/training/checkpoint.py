"""Checkpoints on disk, written and read by Orbax; the only file that calls Orbax.

A folder `step-N` holds the state after N updates, `best-epoch-N` the trainable leaves of the best epoch so far. Each
has Orbax's arrays, a JSON file (the leaves' paths and shapes, and what the host knows) and, written last, a manifest of
both. Orbax sees numbered leaves, since a path may hold what no file name can (a user's label).
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
_drafts: set[Path] = set()  # that threads of this process write, those included that hang


class Store:
    """Checkpoints of one run.

    Args:
        folder: `STRATEGY/seed-K/checkpoints`.
        keep: how many states stay. With one alone, there is nothing to fall back to.
        note: called with a message for people where something is damaged.
        held: epoch of best weights that stay until the run is finished (again), even if no state needs them; 0: none.
    """

    def __init__(
        self, folder: Path, keep: int = 2, note: Callable[[str], None] = lambda text: None, held: int = 0
    ) -> None:
        self.folder, self.keep, self._note, self._held = folder.absolute(), keep, note, held
        self._sound: dict[Path, bool] = {}

    def save(self, step: int, state: Any, notes: dict[str, Any], sign: Sign = lambda: None) -> None:
        """Saves a state (a pytree of arrays) and JSON notes; drops older ones, and best weights that none needs."""
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
        """Saves the trainable leaves of an epoch, the best so far, with JSON notes for those who load them."""
        self._write(self._best(epoch), params, dict(about or {}), sign)

    @property
    def steps(self) -> list[int]:
        """The steps after which a state is saved, ascending; damaged ones are among them."""
        return [int(path.name[5:]) for path in self._folders("step-")]

    def sound(self, step: int) -> bool:
        """Whether every byte of a saved state, and of the best weights that it needs, is as it was written.

        What isn't is reported and set aside.
        """
        if not self._intact(self._step(step)):
            return False
        best = _notes(self._step(step)).get("best_epoch", 0)
        return not best or self._intact(self._best(best))

    def restore(self, step: int, example: T, later: Collection[str] = ()) -> tuple[T, dict[str, Any]]:
        """One of the saved states, in the form of `example`, and its notes.

        Args:
            step: after which it was saved.
            example: of the state.
            later: parameters that train in a later stage only: where the saved state hasn't any of them yet, what
                belongs to them stays as in the example.
        """
        return _load(self._step(step), example, later)

    def restore_best(self, example: T, epoch: int, later: Collection[str] = ()) -> T:
        """The trainable leaves of the best epoch (`later` as in `restore`); a `UserError` where they are damaged."""
        folder = self._best(epoch)
        if reason := sealed.damage(folder):
            raise UserError(f"{folder}: the weights are damaged ({reason}). Remove {self.folder.parent} to train anew")
        return _load(folder, example, later)[0]

    def best_is_whole(self, example: Any, epoch: int) -> bool:
        """Whether the best weights of an epoch have each leaf of `example`."""
        return (read_json(self._best(epoch) / _JSON) or {}).get("leaves", {}).keys() >= _described(example).keys()

    def drop_after(self, step: int) -> None:
        """Drops the states after a step: only some of the runs that train together have them."""
        for later in self.steps:
            if later > step:
                sealed.discard(self._step(later))

    def about_best(self, epoch: int) -> dict[str, Any] | None:
        """The notes of the best weights, unchecked (`restore_best` checks all); None where there are none."""
        folder = self._best(epoch)
        return _notes(folder) if folder.exists() else None

    def finish(self, epoch: int, step: int | None = None) -> None:
        """Drops what only an unfinished run needs: all but the best weights and, where a step is given, its state."""
        stays = {self._best(epoch), *([] if step is None else [self._step(step)])}
        for folder in [*self._folders("step-"), *self._folders("best-epoch-")]:
            if folder not in stays:
                sealed.discard(folder)
        self._sweep()

    def clear(self) -> None:
        """Drops everything."""
        self._sweep("*")
        with suppress(OSError):  # it isn't there, or has the draft of a write that hangs
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
        """Drops what killed processes left half-written; not what a thread of this process writes, even if it hangs."""
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
    """The newest step after which all runs that train together have an undamaged state; 0 where there is none."""
    steps = set.intersection(*(set(store.steps) for store in stores)) if stores else set()
    return next((step for step in sorted(steps, reverse=True) if all(store.sound(step) for store in stores)), 0)


def snapshot(tree: T) -> T:
    """A copy of a pytree's arrays on the host, where the next update doesn't overwrite them."""
    return jax.tree.map(lambda leaf: np.array(leaf), tree)


def all_finite(tree: Any) -> bool:
    """Whether every number of host arrays is finite."""
    return all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


_ARRAYS, _JSON = "arrays", "state.json"


def _notes(folder: Path) -> dict[str, Any]:
    """The notes of a state or of weights; none where they can't be read."""
    try:
        return dict((read_json(folder / _JSON) or {})["notes"])
    except (UserError, TypeError, KeyError, ValueError):
        return {}


@cache
def _orbax() -> Any:
    from orbax.checkpoint import v1

    # Orbax warns, at every save without OCDBT, that there is none to merge, and prints errors that it raises as well.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    others = threading.excepthook
    threading.excepthook = lambda args: None if "orbax" in type(args.thread).__module__ else others(args)
    # Of several writes that fail, all but the first find nobody who waits for them.
    rest = sys.unraisablehook
    sys.unraisablehook = lambda args: None if str(args.exc_value) == "Event loop is closed" else rest(args)
    if jax.process_count() > 1:
        skip_directory_comparison()
    return v1


def _context() -> Any:
    """Settings of Orbax: this process alone takes part, since one writes for all, and each reads for itself."""
    ocp, here = _orbax(), jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"process_{here}"
    )
    context = ocp.Context(multiprocessing_options=alone)
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
    """A tree in the form of `example`, and its notes. Missing, extra and reshaped leaves are listed."""
    beside = read_json(folder / _JSON) or {}
    found, wanted = beside.get("leaves", {}), _described(example)
    absent = {name for name in wanted if name not in found and any(f"[{path!r}]" in name for path in later)}
    changed = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    if changed := [name for name in changed if name not in absent]:
        raise UserError(f"{folder}: the checkpoint is of another model or strategy: {listed(changed)} differ")
    leaves, structure = jax.tree.flatten(example)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    numbers = {name: str(number) for number, name in enumerate(found)}  # as `_save` has them
    named = dict(zip(wanted, leaves, strict=True))
    abstract = {
        numbers[name]: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
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


def _described(tree: Any) -> dict[str, list[Any]]:
    """Path -> [shape, type] of every leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): [list(leaf.shape), str(leaf.dtype)] for path, leaf in leaves}
