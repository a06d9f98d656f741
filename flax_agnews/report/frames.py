"""An experiment's results as pandas frames, for custom plots and tables."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flax_agnews.errors import UserError, shown
from flax_agnews.report.tables import run_row
from flax_agnews.runs.predictions import Predictions, read_predictions
from flax_agnews.runs.result_files import read_results
from flax_agnews.runs.results import Results
from flax_agnews.system.files import expanded, parse_json

if TYPE_CHECKING:
    import pandas

_CURVES = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_macro_f1")
_UPDATE = {"train_loss": "batch/train_loss", "grad_norm": "batch/grad_norm"}  # column -> name in metrics.jsonl


@dataclass(frozen=True)
class ResultFrames:
    """An experiment's results as pandas frames; numbers that are unknown or not finite are NaN.

    Attributes:
        folder: the output folder.
        results: the content of results.json.
    """

    folder: Path
    results: Results = field(repr=False)

    @cached_property
    def runs(self) -> "pandas.DataFrame":
        """One row per run, with the columns of results.csv: scores, last and best value of each curve, costs."""
        return _frame([run_row(run) for run in self.results.runs])

    @cached_property
    def epochs(self) -> "pandas.DataFrame":
        """One row per run and epoch (from 1): training and validation loss and accuracy, validation macro-F1."""
        return _frame(
            {"strategy": run.strategy, "seed": run.seed, "epoch": epoch + 1}
            | {name: values[epoch] if (values := getattr(run, name)) else None for name in _CURVES}
            for run in self.results.runs
            for epoch in range(run.epochs)
        )

    @cached_property
    def updates(self) -> "pandas.DataFrame":
        """One row per run and update (from 1), from each run's metrics.jsonl: loss and gradient norm of the batch.

        `skipped` is whether the update was left out because it was not finite; `spike`, whether its loss was far above
        the usual.

        Raises:
            UserError: a run's metrics.jsonl is missing or damaged.
        """
        return _frame(
            {"strategy": run.strategy, "seed": run.seed, "step": line["step"]}
            | {column: _number(line.get(name)) for column, name in _UPDATE.items()}
            | {mark: bool(line.get(mark)) for mark in ("skipped", "spike")}
            for run in self.results.runs
            for line in _lines(self.folder / run.strategy / f"seed-{run.seed}" / "metrics.jsonl")
            if isinstance(line.get("step"), int)
        )

    @cached_property
    def predictions(self) -> "pandas.DataFrame":
        """One row per run and text of the validation and test splits, from each run's predictions.parquet.

        `text` is the text's number in its split, from 0; `label` and `predicted` are class names, and `p(NAME)` is the
        probability of the class NAME. Runs that an earlier version finished have no predictions, and no rows.

        Raises:
            UserError: a run's predictions.parquet is damaged.
        """
        import pandas

        found = ((run, read_predictions(self.folder, run.strategy, run.seed)) for run in self.results.runs)
        frames = [_prediction_rows(run.strategy, run.seed, one) for run, one in found if one]
        names = ["strategy", "seed", "split", "text", "label", "predicted"]
        return pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame(columns=names)


def _prediction_rows(strategy: str, seed: int, predictions: Predictions) -> "pandas.DataFrame":
    """Makes a frame with a row per text of one run."""
    import pandas

    frames, classes = [], predictions.classes
    for name, split in predictions.splits.items():
        columns = {
            "strategy": strategy,
            "seed": seed,
            "split": name,
            "text": np.arange(len(split.labels)),
            "label": pandas.Categorical.from_codes(split.labels, classes),
            "predicted": pandas.Categorical.from_codes(split.answers, classes),
        }
        named = {f"p({label})": split.probabilities[:, number] for number, label in enumerate(classes)}
        frames.append(pandas.DataFrame({**columns, **named}))
    return pandas.concat(frames, ignore_index=True)


def load_results(folder: str | Path) -> ResultFrames:
    """Reads an experiment's results as pandas frames: `load_results("runs/mine").epochs` has a row per run and epoch.

    Args:
        folder: output folder of an experiment, with its results.json.

    Raises:
        UserError: results.json is missing or damaged.
    """
    if not isinstance(folder, str | Path):
        raise UserError(f"load_results(folder={shown(repr(folder))}): must be the output folder of an experiment")
    path = expanded(str(folder))
    return ResultFrames(path, read_results(path))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Reads a JSON-lines file."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    for number, line in enumerate(lines, start=1):
        try:
            found = parse_json(line)
        except ValueError as error:
            raise UserError(f"{path}: line {number} is not valid JSON ({error})") from None
        if not isinstance(found, dict):
            raise UserError(f"{path}: line {number} is no JSON object")
        yield found


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) else None


def _frame(rows: Any) -> "pandas.DataFrame":
    """Makes a frame whose columns of numbers have numeric types, with NaN for None."""
    import pandas

    frame = pandas.DataFrame(list(rows))
    return frame.astype({name: float for name in frame if name != "strategy" and frame[name].dtype == object})
