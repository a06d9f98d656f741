"""An experiment's output folder: whose it is, what is finished in it, and its results in one file."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from flax_agnews.config import Config
from flax_agnews.errors import UserError, listed, shown
from flax_agnews.runs.identity import changed
from flax_agnews.runs.lock import Lock
from flax_agnews.runs.recorded_paths import compared, recorded
from flax_agnews.runs.result_files import read_run, write_results
from flax_agnews.runs.results import Results, RunResult
from flax_agnews.settings.ranges import check_ranges
from flax_agnews.system.files import check_writable, read_json, read_yaml, settings_from, write_json, write_yaml

# Settings that may change between calls on one folder: they add runs, or don't touch the numbers of a sound run.
_FREE = (
    *("train.runs", "train.on_nonfinite", "train.cache_place", "train.cache_gigabytes"),
    *("tracking.", "checkpoint.", "parallel.keep_"),
)

_WRITTEN = (
    "config.yaml",
    "results.json",
    "results.csv",
    "report.md",
    "accuracy_curves.png",
    "base",
    "pretrain",
    "search",
    "tokenizer",
    "wandb",
)
_WRITTEN_OF_RUN = ("result.json", "metrics.jsonl", "checkpoints", "wandb", "identity.json")


def config_dict(config: Config) -> dict[str, Any]:
    """A configuration as YAML has it: each strategy's settings are a section of their own.

    Which process this is of how many is not in it: any number of them may go on.
    """
    fields = asdict(config)
    for name in ("coordinator", "processes", "process", "start_seconds"):
        del fields["parallel"][name]
    strategies = fields.pop("strategies")
    return {**fields, **strategies}


def _config_of(sections: Mapping[str, Any]) -> Config:
    """What `config_dict` wrote. TypeError where a section isn't one of ours."""
    default, rest = Config(), dict(sections)
    known = {field.name: rest.pop(field.name) for field in fields(Config) if field.name in rest}
    made = {name: _section(getattr(default, name), value) for name, value in known.items()}
    config = Config(**made, strategies=rest)
    check_ranges(config)
    return config


def _section(default: Any, value: Any) -> Any:
    return settings_from(type(default), value) if is_dataclass(default) else value


@dataclass(frozen=True)
class RunFolder:
    """`STRATEGY/seed-K`: one run's files.

    Attributes:
        path: the folder.
        writes: whether this process makes files in it.
    """

    path: Path
    writes: bool = True

    @property
    def result(self) -> RunResult | None:
        """The finished run's results; None where it isn't finished. UserError where they are another run's."""
        return read_run(self.path / "result.json")

    @property
    def identity(self) -> dict[str, Any] | None:
        """What it was begun as; None where it wasn't."""
        before = read_json(self.path / "identity.json")
        return before if before is None or isinstance(before, dict) else {}

    def claim(self, identity: Mapping[str, str]) -> None:
        """Marks the run with what it is a run of, and refuses one that was begun as something else."""
        before = self.identity
        self.check(identity)
        grown = before is not None and "steps" in before and before["steps"] != identity.get("steps")
        if self.writes and (before is None or grown):
            write_json(self.path / "identity.json", dict(identity))

    def check(self, identity: Mapping[str, str]) -> None:
        """Refuses a run that was begun as something else; what is `PLANNED` is left to `schemes.Scheme`."""
        if (known := self.identity) is None:
            return
        if others := changed(known, identity):
            raise UserError(
                f"{self.path}: was begun with other {listed(others)}. Choose another --output, or --overwrite"
            )


class OutputFolder:
    """Where an experiment keeps what it makes.

    Args:
        path: the folder; made where it is missing.
        writes: whether this process makes files in it; of several, only the first does.

    Attributes:
        lock: keeps other processes out; taken by `claim` at the latest.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path, self.writes, self.lock = path, writes, Lock(path)

    @property
    def in_use(self) -> bool:
        """Whether an experiment was begun here."""
        return (self.path / "config.yaml").exists()

    @property
    def config(self) -> Config:
        """The settings that the experiment was last called with; those of strategies as they stand in config.yaml."""
        sections = self._before()
        if sections is None:
            raise UserError(f"{self.path}: has no config.yaml; give a run where it was made, in its output folder")
        try:
            return _config_of(sections)
        except TypeError as error:
            raise UserError(f"{self.path / 'config.yaml'}: is of another version of this program ({error})") from error

    @property
    def epochs(self) -> int | None:
        """Of the call before; None where there was none."""
        before = self._before()
        epochs = before["train"].get("epochs") if before else None
        return epochs if type(epochs) is int else None

    def check(self, config: Config, overwrite: bool = False) -> Config:
        """Refuses a folder that belongs to another configuration, showing the difference; writes nothing.

        Returns:
            The settings; with labels read as in this folder's runs where these were made before there was a choice.
        """
        if "\0" in str(self.path):
            raise UserError(f"--output {self.path}: no folder's name holds a null character")
        file = next((p for p in (self.path, *self.path.parents) if p.exists() and not p.is_dir()), None)
        if file:
            raise UserError(f"--output {self.path}: {file} is a file; name a folder")
        if self.writes:
            check_writable(self.path / "config.yaml")
        if overwrite or not (before := self._before()):
            return config
        if before["data"]["labels"] == "legacy" and config.data.labels == "auto":
            config = replace(config, data=replace(config.data, labels="legacy"))
        self._compare(before, config_dict(config))
        return config

    def claim(self, config: Config, overwrite: bool = False) -> None:
        """Writes config.yaml: these settings, with the strategies and the number of runs that were there before.

        Local paths are absolute in it, so that the folder is usable from everywhere.

        With `overwrite`, first removes what an experiment wrote there, and nothing else.
        """
        if not self.writes:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from None
        self.lock.take()
        if overwrite:
            self._clear()
        self._sweep()
        now, before = recorded(config_dict(config)), self._before()
        if before:
            names = [*before["strategy"].split(","), *now["strategy"].split(",")]
            now["strategy"] = ",".join(dict.fromkeys(names))
            now["train"]["runs"] = max(now["train"]["runs"], before["train"]["runs"])
            now["custom"] = sorted({*now["custom"], *before.get("custom", ())})
            now = {**before, **now}
        write_yaml(self.path / "config.yaml", now)

    def _before(self) -> dict[str, Any] | None:
        """The folder's config.yaml; None where there is none."""
        path = self.path / "config.yaml"
        try:
            content = read_yaml(path)
            if isinstance(content["strategy"], str) and isinstance(content["train"]["runs"], int):
                content["data"].setdefault("labels", "legacy")  # made before there was a choice
                return content
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        except (KeyError, TypeError, ValueError):
            pass
        raise UserError(f"{path}: is no configuration of this program. Choose another --output, or --overwrite")

    def _compare(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        # What config.yaml lacks is newer than the folder, which was made as its default has it.
        old = {**by_name(compared(config_dict(Config()))), **by_name(compared(before))}
        new = by_name(compared(now))
        changed = [
            f"{name} was {shown(old[name], 100)}, now {shown(new[name], 100)}"
            for name in new
            if name in old and not _may_follow(name, old[name], new[name])
        ]
        if changed:
            raise UserError(
                f"{self.path} belongs to another configuration: {listed(changed)}. "
                "Choose another --output, or --overwrite"
            )

    def _clear(self) -> None:
        """Removes what an experiment wrote, and nothing else."""
        for run in self._runs():
            _remove(run.path, _WRITTEN_OF_RUN)
            for folder in (run.path, run.path.parent):
                if not any(folder.iterdir()):
                    folder.rmdir()
        _remove(self.path, _WRITTEN)

    def _sweep(self) -> None:
        """Removes drafts of files whose writers were killed."""
        for folder in (self.path, self.path / "base", self.path / "search", *(run.path for run in self._runs())):
            for draft in folder.glob(".*.tmp"):
                draft.unlink(missing_ok=True)

    def _runs(self) -> list[RunFolder]:
        """The runs that were begun here, whichever settings began them."""
        return [RunFolder(path.parent) for path in self.path.glob("*/seed-*/identity.json")]

    def run(self, strategy: str, seed: int) -> RunFolder:
        """The folder of one run."""
        return RunFolder(self.path / strategy / f"seed-{seed}", self.writes)

    def finished(self, order: Sequence[str]) -> list[RunResult]:
        """Results of all finished runs, strategies in `order` first, seeds ascending."""
        found = [result for run in self._runs() if (result := run.result)]
        place = {name: i for i, name in enumerate(order)}
        return sorted(found, key=lambda run: (place.get(run.strategy, len(place)), run.strategy, run.seed))

    def write_results(self, header: Results, order: Sequence[str]) -> Results:
        """Writes results.json: the header with all finished runs, strategies in `order` first; returns its content."""
        results = replace(header, runs=self.finished(order))
        if self.writes:
            write_results(self.path, results)
        return results


def _may_follow(name: str, old: Any, new: Any) -> bool:
    """Whether a setting may have the value `new` in a folder where it had `old`."""
    grown = name == "train.epochs" and type(old) is int and new > old
    return old == new or grown or name.startswith(_FREE)


def _remove(folder: Path, names: Sequence[str]) -> None:
    """Removes these files and folders of `folder`."""
    for name in names:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def by_name(sections: Mapping[str, Any]) -> dict[str, Any]:
    """`section.field` -> value."""
    return {
        f"{section}.{name}": value
        for section, fields in sections.items()
        if isinstance(fields, Mapping)
        for name, value in fields.items()
    }
