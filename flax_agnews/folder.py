"""An experiment's output folder: whose it is, what is finished in it, and its results in one file."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from flax_agnews.config import Config
from flax_agnews.errors import UserError, listed
from flax_agnews.files import read_json, write_json
from flax_agnews.statistics import summary

# Settings that may change between calls on one folder: they add runs, or don't touch the numbers.
_FREE = ("strategy", "output", "train.runs", "tracking.", "checkpoint.")
_WRITTEN = (
    "config.yaml",
    "results.json",
    "results.csv",
    "report.md",
    "accuracy_curves.png",
    "base",
    "tokenizer",
)


def config_dict(config: Config) -> dict[str, Any]:
    """A configuration as YAML has it: each strategy's settings are a section of their own."""
    fields = asdict(config)
    strategies = fields.pop("strategies")
    return {**fields, **strategies}


@dataclass(frozen=True)
class RunFolder:
    """`STRATEGY/seed-K`: one run's files."""

    path: Path

    @property
    def result(self) -> dict[str, Any] | None:
        """The finished run's results; None where it isn't finished."""
        return read_json(self.path / "result.json")

    def claim(self, identity: Mapping[str, str]) -> None:
        """Marks the run with what it is a run of, and refuses one that was begun as something else."""
        path = self.path / "identity.json"
        before = read_json(path)
        if before is None:
            write_json(path, dict(identity))
            return
        changed = [name for name in identity if before.get(name) != identity[name]]
        if changed:
            raise UserError(
                f"{self.path}: was begun with other {listed(changed)}. Choose another --output, or --overwrite"
            )


class OutputFolder:
    """Where an experiment keeps what it makes.

    Args:
        path: the folder; made where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def claim(self, config: Config, overwrite: bool = False) -> None:
        """Writes config.yaml, or refuses a folder that belongs to another configuration (and shows the difference)."""
        path = self.path / "config.yaml"
        if overwrite:
            self._clear()
        now = config_dict(config)
        try:
            if path.is_file():
                before = yaml.safe_load(path.read_text("utf-8")) or {}
                self._compare(before, now)
                names = [*str(before.get("strategy", "")).split(","), *now["strategy"].split(",")]
                now["strategy"] = ",".join(dict.fromkeys(name for name in names if name))
                now["train"]["runs"] = max(now["train"]["runs"], before["train"]["runs"])
                now = {**before, **now}
            self.path.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(now, sort_keys=False), "utf-8")
        except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path}: is not a configuration of this program. Choose another --output, or --overwrite"
            ) from error
        except OSError as error:
            raise UserError(f"--output {self.path}: can't be written ({error.strerror})") from error

    def _compare(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        old, new = _flat(before), _flat(now)
        changed = [
            f"{name} was {old[name]}, now {new[name]}"
            for name in new
            if name in old and old[name] != new[name] and not name.startswith(_FREE)
        ]
        if changed:
            raise UserError(
                f"{self.path} belongs to another configuration: {listed(changed)}. Choose another --output, or --overwrite"
            )

    def _clear(self) -> None:
        """Removes what an experiment wrote, and nothing else."""
        for run in self.path.glob("*/seed-*"):
            shutil.rmtree(run)
            if not any(run.parent.iterdir()):
                run.parent.rmdir()
        for name in _WRITTEN:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def run(self, strategy: str, seed: int) -> RunFolder:
        """The folder of one run."""
        return RunFolder(self.path / strategy / f"seed-{seed}")

    def finished(self, order: Sequence[str]) -> list[dict[str, Any]]:
        """Results of all finished runs, strategies in `order` first, seeds ascending."""
        found = [result for p in self.path.glob("*/seed-*") if (result := RunFolder(p).result)]
        place = {name: i for i, name in enumerate(order)}
        return sorted(found, key=lambda r: (place.get(r["strategy"], len(place)), r["strategy"], r["seed"]))

    def write_results(self, header: Mapping[str, Any], order: Sequence[str]) -> dict[str, Any]:
        """results.json of all finished runs."""
        runs = self.finished(order)
        results = {"schema": 1, **header, "runs": runs, "summary": summary(runs)}
        write_json(self.path / "results.json", results)
        return results


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
