"""The output folder of an experiment: its configuration, its lock, and which of its runs are finished."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from flax_agnews.config import Config
from flax_agnews.errors import UserError, flag, listed, shown
from flax_agnews.metrics.tensorboard import EVENT_FILES
from flax_agnews.runs.identity import START_ELSEWHERE
from flax_agnews.runs.lock import Lock
from flax_agnews.runs.merged_file import MERGED
from flax_agnews.runs.recorded_paths import compared, recorded
from flax_agnews.runs.result_files import write_results
from flax_agnews.runs.results import Results, RunResult
from flax_agnews.runs.run_folder import RunFolder
from flax_agnews.runs.shards import Shard
from flax_agnews.settings.ranges import check_ranges
from flax_agnews.system.files import check_writable, read_yaml, settings_from, write_yaml

# Settings that may change between calls on one folder: they add runs, or don't change runs whose numbers are finite.
_FREE = (
    *("train.runs", "train.on_nonfinite", "train.cache_place", "train.cache_gigabytes"),
    *("tracking.", "report.", "checkpoint.", "parallel.keep_", "parallel.compile_ahead"),
    # These change the last digits at most, which is noted when a run is resumed.
    *("parallel.devices", "parallel.spread", "parallel.fsdp"),
)

_WRITTEN = (
    "config.yaml",
    "data_checks.parquet",
    "results.json",
    "results.csv",
    "report.md",
    "report.html",
    "accuracy_curves.png",
    "accuracy_curves.svg",
    "base",
    "pretrain",
    "reference",
    "search",
    "texts.parquet",
    "tokenizer",
    "wandb",
)
_WRITTEN_OF_RUN = ("result.json", "predictions.parquet", "metrics.jsonl", "checkpoints", "wandb", "identity.json")


def config_dict(config: Config) -> dict[str, Any]:
    """A configuration as nested dictionaries, as in config.yaml, with a section for each strategy's settings.

    Number and addresses of processes are left out, since another number of processes may resume the experiment, and so
    is whether a cluster runs it.
    """
    fields = asdict(config)
    del fields["plan"]  # of a dry run, which is no run
    alone = ("coordinator", "processes", "process", "start_seconds")
    for name in (*alone, "engine", "address", "task_gpus", "task_cpus"):
        del fields["parallel"][name]
    strategies = fields.pop("strategies")
    return {**fields, **strategies}


def _config_of(sections: Mapping[str, Any]) -> Config:
    """The configuration of such sections, the inverse of `config_dict`. TypeError for an unknown section or field."""
    default, rest = Config(), dict(sections)
    known = {field.name: rest.pop(field.name) for field in fields(Config) if field.name in rest}
    made = {name: _section(getattr(default, name), value) for name, value in known.items()}
    config = Config(**made, strategies=rest)
    check_ranges(config)
    return config


def _section(default: Any, value: Any) -> Any:
    return settings_from(type(default), value) if is_dataclass(default) else value


class OutputFolder:
    """The output folder of an experiment.

    Args:
        path: the folder; `claim` creates it where it is missing.
        writes: whether this process writes files; of several processes, only the first does.
        writes_runs: whether this process writes files of runs; by default as `writes`. A task of a cluster does so in
            the folder that its driver has claimed.

    Attributes:
        lock: keeps other processes from writing; `claim` takes it.
    """

    def __init__(self, path: Path, writes: bool = True, writes_runs: bool | None = None) -> None:
        self.path, self.writes, self.lock = path, writes, Lock(path)
        self.writes_runs = writes if writes_runs is None else writes_runs

    @property
    def in_use(self) -> bool:
        """Whether an experiment was started here."""
        return (self.path / "config.yaml").exists()

    @property
    def config(self) -> Config:
        """The settings in config.yaml, of the last call on this folder; strategies' settings as plain dictionaries."""
        sections = self._before()
        if sections is None:
            raise UserError(f"{self.path}: has no config.yaml; give a run where it was made, in its output folder")
        try:
            return _config_of(sections)
        except TypeError as error:
            raise UserError(f"{self.path / 'config.yaml'}: is of another version of this program ({error})") from error

    @property
    def epochs(self) -> int | None:
        """`train.epochs` in config.yaml, of the last call on this folder; None where there was none."""
        before = self._before()
        epochs = before["train"].get("epochs") if before else None
        return epochs if type(epochs) is int else None

    def check(self, config: Config, overwrite: bool = False) -> Config:
        """Checks that an experiment with these settings may resume in the folder; writes nothing.

        Returns:
            The settings; `data.labels` is `legacy` where the folder was made before that setting existed, and
            `train.shapes: auto` is the number of shapes that the folder's runs were given.

        Raises:
            UserError: the folder can't be written, holds merged results, or was made with other settings, which are
                named.
        """
        if "\0" in str(self.path):
            raise UserError(f"{flag('output')} {self.path}: no folder's name holds a null character")
        file = next((p for p in (self.path, *self.path.parents) if p.exists() and not p.is_dir()), None)
        if file:
            raise UserError(f"{flag('output')} {self.path}: {file} is a file; name a folder")
        if (self.path / MERGED).exists():
            raise UserError(
                f"{flag('output')} {self.path}: holds merged results ({MERGED}), in which no experiment goes on; "
                "name a new folder, or one of those that were merged"
            )
        if self.writes:
            check_writable(self.path / "config.yaml")
        if overwrite or not (before := self._before()):
            return config
        if before["data"]["labels"] == "legacy" and config.data.labels == "auto":
            config = replace(config, data=replace(config.data, labels="legacy"))
        if config.train.shapes == "auto" and type(shapes := before["train"].get("shapes")) is int:
            config = replace(config, train=replace(config.train, shapes=shapes))
        self._compare(before, config_dict(config))
        return config

    def claim(self, config: Config, overwrite: bool = False) -> None:
        """Takes the lock and writes config.yaml: these settings, with the strategies and runs of earlier calls.

        Local paths are made absolute in it, so that the folder is usable from any working directory.

        Args:
            config: the settings.
            overwrite: first remove the files of an earlier experiment, and nothing else.
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
        """The content of config.yaml; None where there is none."""
        path = self.path / "config.yaml"
        try:
            content = read_yaml(path)
            if isinstance(content["strategy"], str) and isinstance(content["train"]["runs"], int):
                content["data"].setdefault("labels", "legacy")  # the folder is older than this setting
                return content
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        except (KeyError, TypeError, ValueError):
            pass
        raise UserError(f"{path}: is no configuration of this program. {START_ELSEWHERE}")

    def _compare(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        # A setting that config.yaml lacks is newer than the folder, whose runs were made with its default.
        old = {**by_name(compared(config_dict(Config()))), **by_name(compared(before))}
        new = by_name(compared(now))
        free: tuple[str, ...] = _FREE
        if not Shard.of(new["parallel.shard"]).whole:  # which runs a shard has depends on all that are dealt
            old["strategy"], new["strategy"] = before["strategy"], now["strategy"]
            free = tuple(name for name in _FREE if name != "train.runs")
        changed = [
            f"{name} was {shown(old[name], 100)}, now {shown(new[name], 100)}"
            for name in new
            if name in old and not _may_follow(name, old[name], new[name], free)
        ]
        if changed:
            raise UserError(f"{self.path} belongs to another configuration: {listed(changed)}. {START_ELSEWHERE}")

    def _clear(self) -> None:
        """Removes the files that an experiment writes, and nothing else."""
        for run in self._runs():
            _remove(run.path, _WRITTEN_OF_RUN)
            for folder in (run.path, run.path.parent):
                if not any(folder.iterdir()):
                    folder.rmdir()
        _remove(self.path, _WRITTEN)

    def _sweep(self) -> None:
        """Removes temporary files left by killed processes."""
        for folder in (self.path, self.path / "base", self.path / "search", *(run.path for run in self._runs())):
            for draft in folder.glob(".*.tmp"):
                draft.unlink(missing_ok=True)

    def _runs(self) -> list[RunFolder]:
        """The folders of all runs that were started here, by this call or earlier ones."""
        return [RunFolder(path.parent) for path in self.path.glob("*/seed-*/identity.json")]

    def run(self, strategy: str, seed: int) -> RunFolder:
        """The folder of one run."""
        return RunFolder(self.path / strategy / f"seed-{seed}", self.writes_runs)

    def finished(self, order: Sequence[str]) -> list[RunResult]:
        """Results of all finished runs: strategies in `order` first, then others by name; seeds ascending."""
        found = [result for run in self._runs() if (result := run.result)]
        place = {name: i for i, name in enumerate(order)}
        return sorted(found, key=lambda run: (place.get(run.strategy, len(place)), run.strategy, run.seed))

    def write_results(self, header: Results, order: Sequence[str]) -> Results:
        """Writes results.json and returns its content: `header` with all finished runs, sorted as in `finished`."""
        results = replace(header, runs=self.finished(order))
        if self.writes:
            write_results(self.path, results)
        return results


def _may_follow(name: str, old: Any, new: Any, free: tuple[str, ...]) -> bool:
    """Whether a setting may change from `old` to `new` between two calls on one folder; those in `free` always may."""
    grown = name == "train.epochs" and type(old) is int and new > old
    return old == new or grown or name.startswith(free)


def _remove(folder: Path, names: Sequence[str]) -> None:
    """Removes the named files and folders in `folder`, and event files, where they exist."""
    for path in [*(folder / name for name in names), *folder.glob(EVENT_FILES)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def by_name(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens settings in sections: `section.field` -> value."""
    return {
        f"{section}.{name}": value
        for section, fields in sections.items()
        if isinstance(fields, Mapping)
        for name, value in fields.items()
    }
