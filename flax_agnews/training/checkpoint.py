"""Training state on disk, by Orbax; the only file that knows Orbax.

A folder `step-N` holds the state after N updates and `step-N.json` what the host knows beside it (written first, so
that a state without it is never taken). `best` holds the trainable leaves of the best epoch so far.
"""

import logging
import shutil
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from flax_agnews.errors import UserError, first_line
from flax_agnews.files import read_json, write_json

T = TypeVar("T")


class Store:
    """Checkpoints of one run.

    Args:
        folder: `STRATEGY/seed-K/checkpoints`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def save(self, step: int, state: Any, notes: dict[str, Any]) -> None:
        """Saves a state (any pytree of arrays) and JSON notes, then removes the older ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"step-{step:08d}"
        write_json(self.folder / f"{name}.json", notes)
        _save(self.folder / name, state)
        for old in self._steps():
            if old.name != name:
                _remove(old)

    def restore(self, example: T) -> tuple[T, dict[str, Any]] | None:
        """The newest state, in the form of `example`, and its notes; None where nothing was saved."""
        for path in reversed(self._steps()):
            if (notes := read_json(path.with_suffix(".json"))) is not None:
                return _load(path, example), notes
        return None

    def save_best(self, params: Any, epoch: int) -> None:
        """Keeps the trainable leaves of the best epoch so far, and drops those of the one before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        new = self.folder / f"best-epoch-{epoch}"
        _save(new, params)
        for old in self.folder.glob("best-epoch-*"):
            if old != new:
                _remove(old)

    def restore_best(self, example: T, epoch: int) -> T:
        """The trainable leaves of the best epoch."""
        return _load(self.folder / f"best-epoch-{epoch}", example)

    def finish(self) -> None:
        """Drops what only an unfinished run needs: all but the best weights."""
        for path in self._steps():
            _remove(path)

    def _steps(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step-*") if p.is_dir() and p.name[5:].isdigit())


def _orbax() -> Any:
    from orbax.checkpoint import v1

    # It warns, at every save without OCDBT, that there is no OCDBT to merge.
    logging.getLogger("absl").setLevel(logging.ERROR)
    return v1


def _save(path: Path, tree: Any) -> None:
    ocp = _orbax()
    context = ocp.Context()
    # Float32 weights hardly compress: without compression a save takes a tenth of the time.
    context.array.saving.use_ocdbt = False
    context.array.saving.use_compression = False
    with context:
        ocp.save(path, jax.tree.map(jnp.asarray, tree), overwrite=True)


def _load(path: Path, example: T) -> T:
    ocp = _orbax()
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), example)
    try:
        return ocp.load(path, wanted)
    except Exception as error:  # Orbax and TensorStore raise many kinds on a damaged or foreign checkpoint
        raise UserError(
            f"{path}: the checkpoint can't be read ({first_line(error)}); remove it to start that run over"
        ) from error


def _remove(path: Path) -> None:
    path.with_suffix(".json").unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
