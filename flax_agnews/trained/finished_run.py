"""What is known of a finished run before its model is loaded: where it is, its data's settings, its classes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flax_agnews.config import DataConfig
from flax_agnews.data.tokens import Tokenizer
from flax_agnews.errors import UserError, listed
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.runs.output_folder import OutputFolder, RunFolder
from flax_agnews.system.files import expanded
from flax_agnews.training.checkpoint import Store


@dataclass(frozen=True)
class Outline:
    """What is known of a finished run before its model is loaded.

    Attributes:
        name: `STRATEGY/seed-K`, for people.
        data: settings of the data that it was trained on.
        classes: their names.
    """

    name: str
    data: DataConfig
    classes: list[str]


def outline(run: str | Path) -> Outline:
    """Of a run, or of the best run of an output folder; a `UserError` as of `load_parts`, where it isn't usable."""
    output, found = find_run(expanded(str(run)))
    result = found.result
    assert result is not None
    about = about_weights(Store(found.path / "checkpoints"), output, found, result.best_epoch)
    return Outline(f"{result.strategy}/seed-{result.seed}", output.config.data, about["classes"])


def find_run(path: Path) -> tuple[OutputFolder, RunFolder]:
    """The run of a path: a run's own folder, or an output folder's best by validation accuracy.

    Raises:
        UserError: it is neither, or nothing in it is finished.
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
    best = max(runs, key=lambda run: run.best_val_accuracy)  # the first of equals, as `checkpoint.keep_best` has it
    return output, output.run(best.strategy, best.seed)


def weights_record(classes: Sequence[str], tokenizer: Tokenizer, body: GPT2Config) -> dict[str, Any]:
    """The notes that a run's best weights are stored with: class names, vocabulary, and the body's sizes."""
    return {"classes": list(classes), "vocabulary": tokenizer.vocabulary, "body": asdict(body)}


def about_weights(store: Store, output: OutputFolder, run: RunFolder, epoch: int) -> dict[str, Any]:
    """What the best weights' notes say; a `UserError` where the weights weren't kept, or say nothing."""
    about = store.about_best(epoch)
    if about is None:
        places = sorted(output.path.glob("*/seed-*/checkpoints/best-epoch-*"))
        kept = listed("/".join(place.parts[-4:-2]) for place in places) or "none"
        raise UserError(
            f"{run.path}: its weights were not kept (--checkpoint.keep_best, --checkpoint.enabled); kept: {kept}"
        )
    if not isinstance(about.get("classes"), list) or "vocabulary" not in about:
        raise UserError(
            f"{store.folder}: the weights are damaged, or older than the names of their classes; train anew"
        )
    return about
