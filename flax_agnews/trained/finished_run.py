"""Finds a finished run in an output folder, and reads its data settings and classes without loading its model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flax_agnews.config import DataConfig
from flax_agnews.data.tokens import Tokenizer
from flax_agnews.errors import UserError, flag, listed
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.run_folder import RunFolder
from flax_agnews.system.files import expanded
from flax_agnews.training.checkpoint import Store


@dataclass(frozen=True)
class Outline:
    """A finished run's name, data settings and classes, read without loading its model.

    Attributes:
        name: name of the run, `STRATEGY/seed-K`.
        data: settings of the training data.
        classes: names of the classes, in the order of the logits.
    """

    name: str
    data: DataConfig
    classes: list[str]


def outline(run: str | Path) -> Outline:
    """Reads the outline of a run, or of the best run of an output folder.

    Raises:
        UserError: there is no such run, it isn't finished, or its weights weren't kept.
    """
    output, found = find_run(expanded(str(run)))
    result = found.result
    assert result is not None
    about = best_weights_notes(Store(found.path / "checkpoints"), output, found, result.best_epoch)
    return Outline(f"{result.strategy}/seed-{result.seed}", output.config.data, about["classes"])


def find_run(path: Path) -> tuple[OutputFolder, RunFolder]:
    """Finds the output folder and the run at a path, which is a run's folder, or an output folder: then its best run.

    The best run is the one with the highest validation accuracy.

    Raises:
        UserError: the path is neither, or has no finished run.
    """
    if (path / "identity.json").is_file():
        run = RunFolder(path.resolve())
        if run.result is None:
            raise UserError(f"{path}: isn't finished; run the same command again, and it goes on")
        return OutputFolder(run.path.parents[1]), run
    output = OutputFolder(path)
    if not output.in_use:
        raise UserError(f"{path}: is neither an output folder nor a run in one (OUTPUT/STRATEGY/seed-K)")
    if not (runs := output.finished([])):
        raise UserError(f"{path}: no run is finished; run the same command again, and it goes on")
    best = max(runs, key=lambda run: run.best_val_accuracy)  # of equal runs the first, as for `checkpoint.keep_best`
    return output, output.run(best.strategy, best.seed)


def weights_record(classes: Sequence[str], tokenizer: Tokenizer, body: GPT2Config) -> dict[str, Any]:
    """Makes the notes that are stored with a run's best weights: class names, vocabulary hash, and the body's sizes."""
    return {"classes": list(classes), "vocabulary": tokenizer.vocabulary, "body": asdict(body)}


def best_weights_notes(store: Store, output: OutputFolder, run: RunFolder, epoch: int) -> dict[str, Any]:
    """Reads the notes that are stored with a run's best weights, as `weights_record` makes them.

    Raises:
        UserError: the weights weren't kept, or have no such notes.
    """
    about = store.about_best(epoch)
    if about is None:
        places = sorted(output.path.glob("*/seed-*/checkpoints/best-epoch-*"))
        kept = listed("/".join(place.parts[-4:-2]) for place in places) or "none"
        raise UserError(
            f"{run.path}: its weights were not kept ({flag('checkpoint.keep_best')}, {flag('checkpoint.enabled')}); "
            f"kept: {kept}"
        )
    if not isinstance(about.get("classes"), list) or "vocabulary" not in about:
        raise UserError(
            f"{store.folder}: the weights are damaged, or older than the names of their classes; train anew"
        )
    return about
