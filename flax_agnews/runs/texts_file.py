"""The texts of an experiment's validation and test splits, in `OUTPUT/texts.parquet`, so that reports can show them.

The file has a row per text, sorted by split and number: `split`, `text` (number in the split, from 0), `label` (class
number), `content` (the text, or a list of the two of a pair), `file` and `row` (`data.rows.Origins`). Its metadata has
the hash of each split. The same texts give the same bytes.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flax_agnews.data.rows import Origins
from flax_agnews.data.sources import Texts
from flax_agnews.errors import UserError, first_line
from flax_agnews.system.files import write_atomic

TEXTS = "texts.parquet"


def write_texts(output: Path, splits: Mapping[str, Texts], hashes: Mapping[str, str]) -> None:
    """Writes the texts of some splits, unless the file has them already.

    Args:
        output: the output folder.
        splits: name of a split -> its texts, with their origins; `validation` first, then `test`.
        hashes: name of a split -> its hash, as in its predictions.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, mark = output / TEXTS, json.dumps(dict(hashes))
    if _hashes(path) == mark:
        return
    parts = [_columns(name, texts) for name, texts in splits.items()]
    table = pa.table({name: [value for part in parts for value in part[name]] for name in parts[0]}, _schema(splits))
    buffer = io.BytesIO()
    dictionaries = ["split", "label", "file"]
    pq.write_table(
        table.replace_schema_metadata({"hashes": mark}), buffer, compression="zstd", use_dictionary=dictionaries
    )
    write_atomic(path, buffer.getvalue())


def remove_texts(output: Path) -> None:
    """Removes the file of texts, if there is one."""
    (output / TEXTS).unlink(missing_ok=True)


def read_texts(output: Path) -> dict[str, Texts] | None:
    """Name of a split -> its texts, with their origins; None if the folder has none. UserError if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = output / TEXTS
    if not path.exists():
        return None
    try:
        columns = pq.read_table(path, use_threads=False).to_pydict()
        return {name: _texts(columns, name) for name in dict.fromkeys(columns["split"])}
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: is damaged ({first_line(error)}). Remove it, and run the same command again"
        ) from None


def _schema(splits: Mapping[str, Texts]) -> Any:
    import pyarrow as pa

    paired = any(isinstance(text, tuple) for texts in splits.values() for text in texts.texts[:1])
    kinds = {
        "split": pa.string(),
        "text": pa.int32(),
        "label": pa.int32(),
        "content": pa.list_(pa.string()) if paired else pa.string(),
        "file": pa.string(),
        "row": pa.int64(),
    }
    return pa.schema(list(kinds.items()))


def _columns(name: str, texts: Texts) -> dict[str, Any]:
    assert texts.origins is not None
    return {
        "split": [name] * len(texts),
        "text": range(len(texts)),
        "label": texts.labels.tolist(),
        "content": texts.texts,
        "file": [texts.origins.files[number] for number in texts.origins.file],
        "row": texts.origins.row.tolist(),
    }


def _texts(columns: Mapping[str, list[Any]], name: str) -> Texts:
    start, count = columns["split"].index(name), columns["split"].count(name)
    label, content, file, row = (columns[key][start : start + count] for key in ("label", "content", "file", "row"))
    files = tuple(dict.fromkeys(file))
    places = {name: number for number, name in enumerate(files)}
    origins = Origins(files, np.array([places[name] for name in file], np.int32), np.array(row, np.int64))
    return Texts([tuple(one) if isinstance(one, list) else one for one in content], np.array(label, np.int32), origins)


def _hashes(path: Path) -> str | None:
    """The hashes in a file's metadata; None if it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return (pq.read_schema(path).metadata or {})[b"hashes"].decode()
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return None
