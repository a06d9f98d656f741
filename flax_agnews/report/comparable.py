"""Whether the results of several output folders may stand in one report, and what differs where they may not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from flax_agnews.config import Config, TrainConfig
from flax_agnews.errors import UserError, flag, listed, shown
from flax_agnews.report.unfinished import Run, planned_runs
from flax_agnews.runs.merged_file import read_merged_file, sections
from flax_agnews.runs.predictions import Predictions, read_predictions
from flax_agnews.runs.references import read_references
from flax_agnews.runs.result_files import read_results
from flax_agnews.runs.results import Results, RunResult

FREE = (
    *("seed", "runs", "on_nonfinite", "eval_batch_size", "micro_batch_tokens", "shapes", "deterministic"),
    *("parallel_seeds", "cache_frozen", "cache_place", "cache_gigabytes"),
)
"""Settings of training that may differ: which runs there are, and what fits a machine; scores differ by rounding."""

_OTHER = ("model.dropout", "model.dropout_frozen", "search.trials", "search.budget")
"""Settings that must be equal, and are in no results.json. What else matters, the hashes of data and body cover."""

_OF_DATA = {"classes": "classes", "train": "training texts", "validation": "validation texts", "test": "test texts"}
_OF_DATA |= {"class_texts": "training texts of each class", "longest": "longest text", "truncated": "cut texts"}
_OF_MODEL = ("layers", "width", "parameters", "dtype", "precision", "start")


@dataclass(frozen=True)
class Source:
    """An output folder whose results are compared with others'.

    Attributes:
        folder: the folder.
        results: the content of its results.json.
        predictions: those of its runs that have them.
        hashes: name of a split -> hash of its texts, in all predictions of runs and references; may be empty.
        settings: name of a setting -> its value, where it must be equal and isn't in results.json; empty if unknown.
        planned: strategy -> seeds that the folder's settings ask for.
    """

    folder: Path
    results: Results
    predictions: Mapping[Run, Predictions]
    hashes: Mapping[str, str]
    settings: Mapping[str, Any]
    planned: Mapping[str, Sequence[int]]


def read_source(folder: Path) -> Source:
    """Reads what an output folder's comparison with others needs.

    Raises:
        UserError: a file is damaged, or the folder's predictions are of different texts.
    """
    results, found, hashes = read_results(folder), {}, dict[str, str]()
    for run in results.runs:
        if one := read_predictions(folder, run.strategy, run.seed):
            found[run.strategy, run.seed] = one
    references = {name: reference.predictions for name, reference in read_references(folder).items()}
    for name, one in {**{f"{name} seed {seed}": one for (name, seed), one in found.items()}, **references}.items():
        for split, part in one.splits.items():
            if hashes.setdefault(split, part.hash) != part.hash:
                raise UserError(f"{folder}: {name} was tested on other {split} texts than the rest")
    return Source(folder, results, found, hashes, _settings(folder), planned_runs(folder))


def check_comparable(sources: Sequence[Source]) -> None:
    """Raises a `UserError` that says what differs where the results of two folders can't be compared."""
    for one, other in combinations(sources, 2):
        if found := list(differences(one, other)):
            raise UserError(f"{one.folder} and {other.folder} can't be compared: {listed(found, 12)}")


def differences(one: Source, other: Source) -> Iterator[str]:
    """What keeps the results of two folders from being compared, each `NAME: VALUE and VALUE`."""
    yield from _data(one, other)
    yield from _model(one.results, other.results)
    settings = [{**asdict(TrainConfig()), **source.results.settings} for source in (one, other)]
    for name in dict.fromkeys((*settings[0], *settings[1])):
        if name not in FREE:
            yield from _unequal(flag(f"train.{name}"), *(values.get(name) for values in settings))
    for name in _OTHER:
        if name in one.settings and name in other.settings:
            yield from _unequal(flag(name), one.settings[name], other.settings[name])
    yield from _strategies(one.results, other.results)
    yield from _repeated(one, other)


def _settings(folder: Path) -> dict[str, Any]:
    config, default, found = sections(folder / "config.yaml"), asdict(Config()), {}
    if config is None:
        return merged.settings if (merged := read_merged_file(folder)) else {}
    for name in _OTHER:
        section, field = name.split(".")
        given = config.get(section)
        found[name] = {**default[section], **(given if isinstance(given, Mapping) else {})}[field]
    return found


def _data(one: Source, other: Source) -> Iterator[str]:
    data, others = one.results.data, other.results.data
    found: list[str] = []
    for name, title in _OF_DATA.items():
        values = getattr(data, name), getattr(others, name)
        if None not in values:
            found += _unequal(title, *values)
    both = [split for split in one.hashes if split in other.hashes]
    found += [f"contents of the {split} texts" for split in both if one.hashes[split] != other.hashes[split]]
    if not found and data.hash and others.hash and data.hash != others.hash:
        found.append("contents of the training texts, or the tokenizer, or how it is used (data.hash)")
    if not found and not both and not (data.hash and others.hash):  # folders of earlier versions
        found += _unequal("data set", data.source, others.source)
    yield from found


def _model(one: Results, other: Results) -> Iterator[str]:
    for name in _OF_MODEL:
        yield from _unequal(f"model {name}", getattr(one.model, name), getattr(other.model, name))
    if one.model.base and other.model.base:
        if one.model.base != other.model.base:
            yield f"weights of the body ({shown(one.model.name)} and {shown(other.model.name)})"
    else:
        yield from _unequal("model", one.model.name, other.model.name)
        yield from _unequal("language modelling before the runs", one.pretrain, other.pretrain)


def _strategies(one: Results, other: Results) -> Iterator[str]:
    """Differences between runs of the same strategy, and between its learning-rate searches."""
    for name in one.by_strategy:
        if name in other.by_strategy:
            run, others = one.by_strategy[name][0], other.by_strategy[name][0]
            yield from _unequal(f"{name}: factor on the rates", run.rate_factor, others.rate_factor)
            for what in ("trainable_parameters", "total_parameters"):
                yield from _unequal(f"{name}: {what.replace('_', ' ')}", getattr(run, what), getattr(others, what))
            if run.settings is not None and others.settings is not None:
                for key in dict.fromkeys((*run.settings, *others.settings)):
                    yield from _unequal(flag(f"{name}.{key}"), run.settings.get(key), others.settings.get(key))
    for name, search in (one.search or {}).items():
        if name in (other.search or {}) and name not in one.by_strategy:
            yield from _unequal(f"{name}: factor on the rates", search.factor, (other.search or {})[name].factor)


def _repeated(one: Source, other: Source) -> Iterator[str]:
    """Runs of the same strategy and seed with other results. Time, memory and machine may differ."""
    runs = {(run.strategy, run.seed): run for run in one.results.runs}
    for again in other.results.runs:
        key = (again.strategy, again.seed)
        run, pair = runs.get(key), (one.predictions.get(key), other.predictions.get(key))
        if run is None or (_scores(run) == _scores(again) and _same(*pair)):
            continue
        accuracies = f"test accuracy {run.test_accuracy:.4f} and {again.test_accuracy:.4f}"
        yield f"results of {run.strategy} seed {run.seed}, which both have ({accuracies})"


def _scores(run: RunResult) -> RunResult:
    return replace(run, cost=None, environment=None, settings=None, planned_epochs=None)  # type: ignore[arg-type]


def _same(one: Predictions | None, other: Predictions | None) -> bool:
    """Whether two predictions of the same texts are equal, as far as both are there."""
    if one is None or other is None:
        return True
    pairs = [(part.probabilities, other.splits[name].probabilities) for name, part in one.splits.items()]
    return all(np.array_equal(*pair) for pair in pairs)


def _unequal(name: str, one: Any, other: Any) -> Iterator[str]:
    if one != other:
        yield f"{name}: {shown(one)} and {shown(other)}"
