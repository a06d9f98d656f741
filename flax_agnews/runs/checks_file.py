"""The texts that data checks are about, in `OUTPUT/data_checks.parquet`, so that scores can be given without them.

results.json has the counts and the first ten of each check; this file has all of validation and test, a row per check
and text: `kind`, `split`, `other` (`data.checks.DataCheck`) and `text` (number in the split, from 0).
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flax_agnews.data.checks import Finding
from flax_agnews.errors import UserError, first_line
from flax_agnews.system.files import write_atomic

CHECKS = "data_checks.parquet"
Check = tuple[str, str, str | None]
"""Kind, split and other split of a check."""


def write_checked(output: Path, findings: Sequence[Finding]) -> None:
    """Writes the numbers of the validation and test texts that checks found, unless the file has them already."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shown = [finding for finding in findings if finding.check.split != "train"]
    rows = [(f.check.kind, f.check.split, f.check.other, int(number)) for f in shown for number in f.numbers]
    kinds = {"kind": pa.string(), "split": pa.string(), "other": pa.string(), "text": pa.int32()}
    table = pa.Table.from_pylist([dict(zip(kinds, row, strict=True)) for row in rows], pa.schema(list(kinds.items())))
    buffer, path = io.BytesIO(), output / CHECKS
    pq.write_table(table, buffer, compression="zstd", use_dictionary=["kind", "split", "other"])
    if not path.exists() or path.read_bytes() != buffer.getvalue():
        write_atomic(path, buffer.getvalue())


def read_checked(output: Path) -> dict[Check, np.ndarray] | None:
    """Check -> numbers of its texts, ascending, [texts] int32; without checks that found none.

    Returns:
        None if the folder has no such file, since it was made by an earlier version.

    Raises:
        UserError: the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = output / CHECKS
    if not path.exists():
        return None
    try:
        rows = pq.read_table(path, use_threads=False).to_pydict()
        found: dict[Check, list[int]] = {}
        for kind, split, other, text in zip(*(rows[k] for k in ("kind", "split", "other", "text")), strict=True):
            found.setdefault((kind, split, other), []).append(text)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        what = f"is damaged ({first_line(error)}); remove it, and run the same command again"
        raise UserError(f"{path}: {what}") from None
    return {check: np.array(numbers, np.int32) for check, numbers in found.items()}
