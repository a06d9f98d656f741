"""A finished run in the formats of others, each read again and compared before it counts as written."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from flax_agnews.data.tokens import Ragged
from flax_agnews.errors import UserError, flag, nearest
from flax_agnews.runs.sealed import discard
from flax_agnews.strategies import Entry, Strategy
from flax_agnews.system.files import check_writable, draft_of, expanded, move, sync
from flax_agnews.trained.exports.flaxgpt2 import FLAX_GPT2
from flax_agnews.trained.exports.hf import HF
from flax_agnews.trained.exports.peft import PEFT
from flax_agnews.trained.exports.target import Target
from flax_agnews.trained.loading import Parts, load_parts
from flax_agnews.training.inference import Inference

TARGETS: dict[str, Target] = {"hf": HF, "peft": PEFT, "flaxgpt2": FLAX_GPT2}
"""What `--to` calls a format -> the format."""

_BOUND = 2e-5  # of logits, in units of the largest where that is above 1


@dataclass(frozen=True)
class Exported:
    """A run in another format.

    Attributes:
        name: of the run.
        folder: where it is.
        difference: the largest between the run's logits and what the files compute.
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
    strategy: Strategy | Entry | None = None,
    model: str | Path | None = None,
) -> Exported:
    """Writes a finished run as others load it.

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
    if to not in TARGETS:
        raise UserError(f"{flag('to')} {to}: no such format.{nearest(to, TARGETS)}")
    place = expanded(str(folder)).resolve()
    _check_free(place, overwrite)
    target, parts = TARGETS[to], load_parts(run, strategy, exact=True, model=model)
    if reason := target.why_not(parts):
        others = [f"{flag('to')} {name}" for name, other in TARGETS.items() if not other.why_not(parts)]
        instead = f"; what can be done: {' or '.join(others)}" if others else ""
        raise UserError(f"{parts.run.path}: can't be exported {flag('to')} {to}: {reason}{instead}")
    draft = draft_of(place)
    try:
        draft.mkdir(parents=True)
        target.write(parts, draft)
        difference = _compared(parts, target, draft)
        for path in draft.iterdir():
            sync(path)
        discard(place)
        move(draft, place)
    except OSError as error:
        raise UserError(f"{place}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Exported(parts.name, place, difference)


def _check_free(place: Path, overwrite: bool) -> None:
    """A `UserError` where something would be lost."""
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


def _compared(parts: Parts, target: Target, folder: Path) -> float:
    """The largest difference between the run's logits and those of the files; a `UserError` where it is one."""
    rng, most = np.random.default_rng(0), parts.max_length
    lengths = [length for length in (1, 2, 5, 8, most) if length <= most]
    rows = [rng.integers(0, parts.tokenizer.largest_id + 1, length).tolist() for length in lengths]
    tokens = Ragged.of([[parts.tokenizer.end_of_text], *rows])
    with jax.default_matmul_precision("highest"):
        ours = Inference(parts.setup, parts.params, parts.frozen).logits(tokens)
        theirs = target.read(folder, parts)(tokens)
    difference = float(np.abs(ours - theirs).max())
    if not difference <= _BOUND * max(1.0, float(np.abs(ours).max())):  # what is no number isn't, either
        told = f"its logits differ by {difference:.2g} from the run's; nothing was written"
        raise UserError(f"{parts.run.path}: what was exported is not the same: {told}")
    return difference
