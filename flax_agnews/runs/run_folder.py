"""The folder of one run, `OUTPUT/STRATEGY/seed-K`: its identity, its predictions and its result."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flax_agnews.runs.identity import check_identity
from flax_agnews.runs.predictions import NAME, Predictions, write_predictions
from flax_agnews.runs.result_files import read_run, write_run
from flax_agnews.runs.results import RunResult
from flax_agnews.system.files import read_json, write_json


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, `OUTPUT/STRATEGY/seed-K`.

    Attributes:
        path: the folder.
        writes: whether this process writes files; of several processes, only the first does.
    """

    path: Path
    writes: bool = True

    @property
    def result(self) -> RunResult | None:
        """The content of result.json; None where the run isn't finished. UserError where the file is another run's."""
        return read_run(self.path / "result.json")

    def write(self, result: RunResult, found: Predictions) -> None:
        """Writes predictions.parquet, then result.json, which marks the run as finished."""
        write_predictions(self.path / NAME, found)
        write_run(self.path / "result.json", result)

    @property
    def identity(self) -> dict[str, Any] | None:
        """Hashes that the run was started with, from identity.json; None where it wasn't started."""
        before = read_json(self.path / "identity.json")
        return before if before is None or isinstance(before, dict) else {}

    def claim(self, identity: Mapping[str, str]) -> None:
        """Writes identity.json, or checks it where the run was started before.

        Args:
            identity: hashes by name that must match before the run is resumed.

        Raises:
            UserError: the run was started with other hashes.
        """
        before = self.identity
        self.check(identity)
        grown = before is not None and "steps" in before and before["steps"] != identity.get("steps")
        if self.writes and (before is None or grown):
            write_json(self.path / "identity.json", dict(identity))

    def check(self, identity: Mapping[str, str]) -> None:
        """Raises a `UserError` where the run was started with other hashes.

        The `PLANNED` hashes are compared by `experiment.continuation.Scheme`.
        """
        if (known := self.identity) is not None:
            check_identity(self.path, known, identity)
