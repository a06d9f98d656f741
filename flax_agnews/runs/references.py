"""Cheap classifiers on an experiment's own rows, kept in `OUTPUT/reference/NAME/`: predictions and how they were made.

`predictions.parquet` has the format of a run's predictions, so that they are paired with runs like any strategy's;
`reference.json` has all else, and is written last.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError
from flax_agnews.runs.predictions import NAME, Predictions, predictions_in, write_predictions
from flax_agnews.system.files import read_json, write_json

TFIDF, PROBE, MAJORITY = "tfidf", "probe", "majority"
FOLDER, _ABOUT = "reference", "reference.json"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A cheap classifier, trained on the experiment's training rows, and its predictions.

    Attributes:
        key: hash of the texts, the labels and the method.
        seconds: time that it took, with the choice of its settings; also where it was read from a cache.
        parameters: number of scalars that it learned.
        settings: its settings by name, those that were chosen on the validation split among them.
        tried: [value, validation accuracy, validation loss] of each value that was tried.
        predictions: probabilities of the validation and test texts.
    """

    key: str
    seconds: float
    parameters: int
    settings: dict[str, Any]
    tried: list[list[float]]
    predictions: Predictions


def folder_of_reference(output: Path, name: str) -> Path:
    """The folder of a reference in an output folder."""
    return output / FOLDER / name


def write_reference(folder: Path, reference: Reference) -> None:
    """Writes a reference's two files into a folder."""
    write_predictions(folder / NAME, reference.predictions)
    about = {name: getattr(reference, name) for name in ("key", "seconds", "parameters", "settings", "tried")}
    write_json(folder / _ABOUT, about)


def read_reference(folder: Path) -> Reference | None:
    """Reads a reference from its folder; None if there is none, UserError if its files are damaged."""
    about, predictions = read_json(folder / _ABOUT), predictions_in(folder / NAME)
    if about is None or predictions is None:
        return None
    try:
        return Reference(
            key=str(about["key"]),
            seconds=float(about["seconds"]),
            parameters=int(about["parameters"]),
            settings=dict(about["settings"]),
            tried=[[float(value) for value in one] for one in about["tried"]],
            predictions=predictions,
        )
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{folder / _ABOUT}: is no description of a reference; remove {folder}") from None


def read_references(output: Path) -> dict[str, Reference]:
    """Name -> reference of all that an output folder has: `tfidf`, `probe`, `majority`, in this order."""
    found = {name: read_reference(folder_of_reference(output, name)) for name in (TFIDF, PROBE, MAJORITY)}
    return {name: reference for name, reference in found.items() if reference}
