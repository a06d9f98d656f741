"""Exports finished runs to other libraries' formats; each export is read back and its logits compared first."""

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from flax_agnews.data.tokens import Ragged
from flax_agnews.errors import UserError, flag, nearest
from flax_agnews.runs.sealed import whole_folder
from flax_agnews.strategies import StrategyLike
from flax_agnews.system.files import check_writable, expanded
from flax_agnews.trained.exports.flaxgpt2 import FLAX_GPT2
from flax_agnews.trained.exports.hf import HF
from flax_agnews.trained.exports.peft import PEFT
from flax_agnews.trained.exports.target import Target
from flax_agnews.trained.loading import LoadedRun, load_run
from flax_agnews.training.inference import Inference

TARGETS: dict[str, Target] = {"hf": HF, "peft": PEFT, "flaxgpt2": FLAX_GPT2}
"""Name of an export format, one of `export_formats.FORMATS` -> the format."""

_BOUND = 2e-5  # largest difference of logits; relative to the largest logit where that is above 1


@dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes:
        name: name of the run, `STRATEGY/seed-K`.
        folder: folder with the files.
        difference: largest absolute difference between the run's logits and those of the export.
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
    """Exports a finished run to a format that other libraries load, and checks that its logits are the same.

    Args:
        run: folder of a run, `OUTPUT/STRATEGY/seed-K`; or of an experiment, OUTPUT, whose run with the best validation
            accuracy is exported.
        to: `hf` (transformers), `peft` or `flaxgpt2`.
        folder: folder for the files; created where it is missing.
        overwrite: replace an earlier export in the folder.
        strategy: the strategy that trained the run, where it isn't a registered one.
        model: hub id or directory of the body that the run started from, where it has moved; checked by hash.

    Raises:
        UserError: there is no such run, the format can't hold it, or the folder isn't empty; nothing is written then.
    """
    place = _place(to, folder, overwrite)
    return _export(load_run(run, strategy, exact=True, model=model), to, place)


def export_loaded(run: LoadedRun, to: str, folder: str | Path, *, overwrite: bool = False) -> Exported:
    """Exports a run that is in memory, as `export_run` does."""
    return _export(run.exact(), to, _place(to, folder, overwrite))


def _place(to: str, folder: str | Path, overwrite: bool) -> Path:
    """Checks an export's format and folder before a model is loaded; returns the folder's absolute path."""
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
    with whole_folder(place) as draft:
        target.write(loaded, draft)
        difference = _compared(loaded, target, draft)
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
    """The largest difference between the logits of the run and of the export; a `UserError` where it is too large."""
    rng, most = np.random.default_rng(0), run.max_length
    lengths = [length for length in (1, 2, 5, 8, most) if length <= most]
    rows = [rng.integers(0, run.tokenizer.largest_id + 1, length).tolist() for length in lengths]
    tokens = Ragged.of([[run.tokenizer.end_of_text], *rows])
    with jax.default_matmul_precision("highest"):
        ours = Inference(run.model, run.params, run.frozen).logits(tokens)
        theirs = target.read(folder, run)(tokens)
    difference = float(np.abs(ours - theirs).max())
    if not difference <= _BOUND * max(1.0, float(np.abs(ours).max())):  # NaN fails this, too
        fault = f"its logits differ by {difference:.2g} from the run's; nothing was written"
        raise UserError(f"{run.folder.path}: what was exported is not the same: {fault}")
    return difference
