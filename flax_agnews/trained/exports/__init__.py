"""Exports a finished run to other libraries' formats; each export is read again and compared before it is kept."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from flax_agnews.data.tokens import Ragged
from flax_agnews.errors import UserError, flag, nearest
from flax_agnews.runs.sealed import discard
from flax_agnews.strategies import StrategyLike
from flax_agnews.system.files import check_writable, draft_of, expanded, move, sync
from flax_agnews.trained.exports.flaxgpt2 import FLAX_GPT2
from flax_agnews.trained.exports.hf import HF
from flax_agnews.trained.exports.peft import PEFT
from flax_agnews.trained.exports.target import Target
from flax_agnews.trained.loading import LoadedRun, load_run
from flax_agnews.training.inference import Inference

TARGETS: dict[str, Target] = {"hf": HF, "peft": PEFT, "flaxgpt2": FLAX_GPT2}
"""Name of a format in `--to` -> the format."""

_BOUND = 2e-5  # of logits, in units of the largest where that is above 1


@dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes:
        name: of the run, `STRATEGY/seed-K`.
        folder: that the files are in.
        difference: the largest difference between the run's logits and those that the files compute.
    """

    name: str
    folder: Path
    difference: float


def export_run(
    run: str | Path,
    to: str,
    folder: str | Path,
    *,
    overwrite: bool = False,
    strategy: StrategyLike | None = None,
    model: str | Path | None = None,
) -> Exported:
    """Exports a finished run to a format that other libraries load.

    Args:
        run: `OUTPUT/STRATEGY/seed-K`, or OUTPUT: of its runs the one with the best validation accuracy.
        to: `hf`, `peft` or `flaxgpt2`.
        folder: for its files; made where it is missing.
        overwrite: an earlier export that is in it.
        strategy: that trained the run, where it is none of the registered ones.
        model: the body that it was trained from, hub id or directory, where it has moved; compared by hash.

    Raises:
        UserError: no such run, the format can't hold it, or the folder holds something; then nothing is written.
    """
    place = _place(to, folder, overwrite)
    return _export(load_run(run, strategy, exact=True, model=model), to, place)


def export_loaded(run: LoadedRun, to: str, folder: str | Path, *, overwrite: bool = False) -> Exported:
    """Exports a run that is in memory; otherwise as `export_run`."""
    return _export(run.exact(), to, _place(to, folder, overwrite))


def _place(to: str, folder: str | Path, overwrite: bool) -> Path:
    """The folder for an export, checked together with the format's name before a model is loaded."""
    if to not in TARGETS:
        raise UserError(f"{flag('to')} {to}: no such format.{nearest(to, TARGETS)}")
    place = expanded(str(folder)).resolve()
    _check_free(place, overwrite)
    return place


def _export(loaded: LoadedRun, to: str, place: Path) -> Exported:
    target = TARGETS[to]
    if reason := target.why_not(loaded):
        others = [f"{flag('to')} {name}" for name, other in TARGETS.items() if not other.why_not(loaded)]
        instead = f"; what can be done: {' or '.join(others)}" if others else ""
        raise UserError(f"{loaded.folder.path}: can't be exported {flag('to')} {to}: {reason}{instead}")
    draft = draft_of(place)
    try:
        draft.mkdir(parents=True)
        target.write(loaded, draft)
        difference = _compared(loaded, target, draft)
        for path in draft.iterdir():
            sync(path)
        discard(place)
        move(draft, place)
    except OSError as error:
        raise UserError(f"{place}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Exported(loaded.name, place, difference)


def _check_free(place: Path, overwrite: bool) -> None:
    """Raises a `UserError` where the export would overwrite something."""
    check_writable(place)
    if not place.exists():
        return
    if not place.is_dir():
        raise UserError(f"{place}: is a file; an export is a folder")
    held = list(place.iterdir())
    if held and not overwrite:
        raise UserError(f"{place}: is not empty; choose another folder, or {flag('overwrite')}")
    if held and not ((place / "README.md").is_file() and all(path.is_file() for path in held)):
        raise UserError(f"{place}: holds other things than an export; choose another folder")


def _compared(run: LoadedRun, target: Target, folder: Path) -> float:
    """The largest difference between the logits of the run and of the files; a `UserError` where it is too large."""
    rng, most = np.random.default_rng(0), run.max_length
    lengths = [length for length in (1, 2, 5, 8, most) if length <= most]
    rows = [rng.integers(0, run.tokenizer.largest_id + 1, length).tolist() for length in lengths]
    tokens = Ragged.of([[run.tokenizer.end_of_text], *rows])
    with jax.default_matmul_precision("highest"):
        ours = Inference(run.model, run.params, run.frozen).logits(tokens)
        theirs = target.read(folder, run)(tokens)
    difference = float(np.abs(ours - theirs).max())
    if not difference <= _BOUND * max(1.0, float(np.abs(ours).max())):  # NaN fails this, too
        told = f"its logits differ by {difference:.2g} from the run's; nothing was written"
        raise UserError(f"{run.folder.path}: what was exported is not the same: {told}")
    return difference
