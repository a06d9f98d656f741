"""The predictions of a finished run: the probabilities of every validation and test text, in `predictions.parquet`.

The file has a row per text, sorted by split and number: `split`, `text` (number in the split, from 0), `label` (class
number) and `probabilities` (a list of float32, one per class). Its metadata has the class names, the hash of each
split, and a SHA-256 of all that, so that damage is noticed. The same predictions give the same bytes.
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flax_agnews.errors import UserError, first_line
from flax_agnews.metrics.scores import confusion_record
from flax_agnews.runs.result_files import read_run
from flax_agnews.system.files import parse_json, write_atomic

if TYPE_CHECKING:
    import pyarrow as pa  # slow to import, and most commands never need it

NAME = "predictions.parquet"


@dataclass(frozen=True)
class SplitPredictions:
    """A run's predictions for one split, in the split's order of texts.

    Attributes:
        hash: SHA-256 of the split's texts and labels; predictions with equal hashes are of the same texts.
        labels: [texts] int32, class numbers.
        probabilities: [texts, classes] float32.
    """

    hash: str
    labels: np.ndarray
    probabilities: np.ndarray

    @property
    def answers(self) -> np.ndarray:
        """The predicted class numbers, [texts]."""
        return self.probabilities.argmax(axis=1)


@dataclass(frozen=True)
class Predictions:
    """A run's predictions, with the weights of its best epoch.

    Attributes:
        classes: names of the classes, in the order of class numbers.
        splits: name of a split -> its predictions; `validation` first, then `test`.
    """

    classes: list[str]
    splits: dict[str, SplitPredictions]


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Writes predictions as Parquet, atomically."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    # Numbers that count up shrink as differences, and probabilities when bytes of equal significance stand together.
    encodings = {"text": "DELTA_BINARY_PACKED", "probabilities.list.element": "BYTE_STREAM_SPLIT"}
    names = ["split", "label"]
    pq.write_table(_table(predictions), buffer, compression="zstd", use_dictionary=names, column_encoding=encodings)
    write_atomic(path, buffer.getvalue())


def predictions_in(path: Path) -> Predictions | None:
    """Reads a file that `write_predictions` wrote; None if there is no such file.

    Raises:
        UserError: the file can't be read, or is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        with pq.ParquetFile(io.BytesIO(content)) as file:
            return _predictions(file.read(use_threads=False))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError) as error:
        raise UserError(
            f"{path}: the predictions are damaged ({first_line(error)}). Remove the file to go without them, or "
            f"{path.parent} to make them anew"
        ) from error


def read_predictions(folder: Path, strategy: str, seed: int) -> Predictions | None:
    """Reads a finished run's predictions, and compares them with its result.json.

    Args:
        folder: the experiment's output folder.
        strategy: name of the strategy.
        seed: seed of the run.

    Returns:
        The predictions; None if the run has none, since an earlier version finished it.

    Raises:
        UserError: the file is damaged, or its test predictions have another confusion matrix than result.json.
    """
    run = folder / strategy / f"seed-{seed}"
    found, result = predictions_in(run / NAME), read_run(run / "result.json")
    if found is not None and result is not None:
        test = found.splits["test"]
        if confusion_record(test.labels, test.answers, len(found.classes)) != result.test_confusion:
            # More epochs of a finished run were stopped between the two files, or the file is another run's.
            raise UserError(f"{run / NAME}: isn't of the run in result.json; run the same command again, or remove it")
    return found


def _table(predictions: Predictions) -> "pa.Table":
    import pyarrow as pa

    names, parts = list(predictions.splits), list(predictions.splits.values())
    counts = [len(part.labels) for part in parts]
    numbers = np.repeat(np.arange(len(parts), dtype=np.int8), counts)
    values = np.concatenate([part.probabilities.astype(np.float32, copy=False) for part in parts])
    columns = {
        "split": pa.DictionaryArray.from_arrays(pa.array(numbers), pa.array(names, pa.string())),
        "text": pa.array(np.concatenate([np.arange(count, dtype=np.int32) for count in counts])),
        "label": pa.array(np.concatenate([part.labels.astype(np.int32, copy=False) for part in parts])),
        "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), len(predictions.classes)),
    }
    about = {
        "classes": json.dumps(predictions.classes),
        "hashes": json.dumps({name: part.hash for name, part in predictions.splits.items()}),
        "sha256": _seal(predictions),
    }
    return pa.table(columns).replace_schema_metadata(about)


def _predictions(table: Any) -> Predictions:
    """Makes predictions of a table from `_table`; a ValueError, or another exception, where it is damaged."""
    about = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    classes, hashes = parse_json(about["classes"]), parse_json(about["hashes"])
    split = table.column("split").combine_chunks()
    known, numbers = split.dictionary.to_pylist(), split.indices.to_numpy()
    text, label = (table.column(name).to_numpy() for name in ("text", "label"))
    values = table.column("probabilities").combine_chunks().flatten().to_numpy().reshape(-1, len(classes))
    splits = {}
    for name, digest in hashes.items():
        rows = numbers == known.index(name)
        if not np.array_equal(text[rows], np.arange(rows.sum())):
            raise ValueError(f"{name} texts are not in order")
        splits[name] = SplitPredictions(digest, label[rows], values[rows])
    found = Predictions(classes, splits)
    if _seal(found) != about["sha256"]:
        raise ValueError("other content than was written")
    return found


def _seal(predictions: Predictions) -> str:
    """SHA-256 of predictions, with everything that is in the file."""
    hashes = {name: part.hash for name, part in predictions.splits.items()}
    digest = hashlib.sha256(json.dumps([predictions.classes, hashes]).encode())
    for part in predictions.splits.values():
        digest.update(np.asarray(part.labels, "<i4").tobytes())
        digest.update(np.asarray(part.probabilities, "<f4").tobytes())
    return digest.hexdigest()
