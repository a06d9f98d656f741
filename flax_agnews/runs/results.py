"""The contents of `result.json` (one finished run) and `results.json` (an experiment), as dataclasses.

Their fields are the files' fields, in the files' order. A field without a default is always written, as null where it
is None; a field with one is left out of the file where it has that value, since older files don't have it, or since it
concerns few runs. `runs/result_files.py` reads and writes them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any

from flax_agnews.metrics.statistics import summarize
from flax_agnews.runs.trial_record import SearchResult

SCHEMA = 1
"""Version of the format of results.json; another one is refused."""


def json_of(value: Any) -> Any:
    """A dataclass of this file, or lists and dictionaries of them, as plain JSON values."""
    if is_dataclass(value):
        items = ((field, getattr(value, field.name)) for field in fields(value))
        return {f.name: json_of(item) for f, item in items if f.default is MISSING or item != f.default}
    if isinstance(value, dict):
        return {name: json_of(item) for name, item in value.items()}
    return [json_of(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, kw_only=True)
class RunCost:
    """All of a run's numbers that vary from machine to machine; None where one was not measured.

    Attributes:
        train_seconds: spent on updates, without compilation and evaluation.
        compile_seconds, cache_seconds: spent once for all runs of the strategy: compiling, computing frozen layers.
        pretrain_seconds: spent once for all runs on language modelling.
        tokens_per_second: real tokens trained on, padding excluded.
        peak_memory_bytes: the most memory in use during training.
    """

    train_seconds: float | None
    compile_seconds: float | None
    cache_seconds: float | None
    pretrain_seconds: float | None
    tokens_per_second: float | None
    peak_memory_bytes: float | None


COSTS = tuple(field.name for field in fields(RunCost))


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A finished run, as `result.json` has it. Accuracies and F1 are shares, 0 to 1; losses are in nats.

    Attributes:
        strategy, seed: which run.
        test_accuracy, test_loss, test_macro_f1, test_confusion: of the weights of `best_epoch` on the test split;
            the confusion matrix as `metrics.scores.confusion_record` gives it. A loss that isn't finite is None.
        train_accuracy, train_loss: of each epoch's batches during training.
        val_accuracy, val_loss, val_macro_f1: on the validation split after each epoch.
        best_epoch: the epoch, from 1, with the best validation accuracy.
        planned_epochs: `train.epochs` of the call that finished the run.
        stopped_early: whether early stopping ended it before that.
        skipped_updates: updates left out because their numbers were not finite.
        trainable_parameters, total_parameters: numbers that train, and all numbers of the adapted model.
        settings: the strategy's.
        rate_factor: the factor on its learning rates that a search chose.
        custom: whether the strategy is a script's own, not a registered one.
        cost: seconds, speed, memory.
    """

    strategy: str
    seed: int
    test_accuracy: float
    test_loss: float | None
    test_macro_f1: float
    test_confusion: list[list[int]] | dict[str, list[int]]
    train_accuracy: list[float]
    train_loss: list[float | None]
    val_accuracy: list[float]
    val_loss: list[float | None]
    val_macro_f1: list[float] | None = None
    best_epoch: int
    planned_epochs: int | None = None
    stopped_early: bool | None = None
    skipped_updates: int | None = None
    trainable_parameters: int
    total_parameters: int
    settings: dict[str, Any] | None = None
    rate_factor: float | None = None
    custom: bool = False
    cost: RunCost

    @property
    def epochs(self) -> int:
        """Epochs that the run trained for."""
        return len(self.val_accuracy)

    @property
    def best_val_accuracy(self) -> float:
        """The best validation accuracy, by which the best of several runs is chosen; -1 where there is none."""
        return max((value for value in self.val_accuracy if value is not None), default=-1.0)


@dataclass(frozen=True, kw_only=True)
class DataResult:
    """The data set of an experiment; what older files don't say is None.

    Attributes:
        source: name of the data set.
        notes: remarks on how it was read.
        classes: their names.
        class_texts: number of training texts of each class.
        train, validation, test: number of texts in each split.
        tokens_per_text, longest: mean and largest number of tokens of a training text.
        truncated: number of texts that were cut at `data.max_length`.
        majority_accuracy: test accuracy of always answering the most frequent class.
        padding_share: of the tokens computed in training.
        hash: of texts and labels.
    """

    source: str
    notes: list[str] | None = None
    classes: list[Any]
    class_texts: list[int] | None = None
    train: int
    validation: int
    test: int
    tokens_per_text: float | None = None
    longest: float | None = None
    truncated: float | None = None
    majority_accuracy: float
    padding_share: float | None = None
    hash: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelResult:
    """The GPT-2 body that every run of an experiment starts from.

    Attributes:
        name: hub id, folder, or the sizes of a random one.
        layers, width, parameters: its sizes.
        dtype: the type that it computes in.
        base: hash of its weights.
        start: `model.start`: a model whose head or adapter gives first values.
    """

    name: str
    layers: int
    width: int
    parameters: int
    dtype: str
    base: str | None = None
    start: str | None


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """Language modelling on the training texts before the comparison: epochs, and each one's loss in nats a token."""

    epochs: int
    loss: list[float | None]


@dataclass(frozen=True)
class Mean:
    """Mean of a score over a strategy's runs, its sd, and its 95 % t-interval, as `statistics.Summary` has them.

    All are None where one run lacks the score: a mean over the runs that didn't diverge would flatter the strategy.
    """

    mean: float | None
    sd: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Mean":
        """Of one value a run; None, NaN and infinity are values that the run lacks."""
        every = list(values)
        known = [float(value) for value in every if value is not None and math.isfinite(value)]
        if len(known) < len(every):
            return cls(None, None, None, None)
        found = summarize(known)
        return cls(found.mean, found.sd, found.low, found.high)


@dataclass(frozen=True)
class StrategySummary:
    """Scores of a strategy over its `n` runs."""

    n: int
    test_accuracy: Mean
    test_macro_f1: Mean
    test_loss: Mean


@dataclass(frozen=True, kw_only=True)
class Results:
    """An experiment, as `results.json` has it; the file has the `summary` besides, which follows from the runs.

    Attributes:
        flax_agnews: version of the program.
        data, model, pretrain: what the runs have in common; `pretrain` is None without language modelling.
        environment, settings: versions and machine, and the training settings, by name.
        search: each strategy's learning-rate search, where there was any.
        diverged: runs that stopped because their numbers were not finite, and where.
        runs: the finished ones, by strategy and seed.
    """

    flax_agnews: str | None
    data: DataResult
    model: ModelResult
    pretrain: PretrainResult | None
    environment: dict[str, Any]
    settings: dict[str, Any]
    search: dict[str, SearchResult] | None = None
    diverged: list[str]
    runs: list[RunResult]

    @cached_property
    def by_strategy(self) -> dict[str, list[RunResult]]:
        """The runs of each strategy."""
        return by_strategy(self.runs)

    @cached_property
    def summary(self) -> dict[str, StrategySummary]:
        """The scores of each strategy over its runs."""
        return summary(self.runs)

    @cached_property
    def json(self) -> dict[str, Any]:
        """The content of results.json."""
        return {"schema": SCHEMA, **json_of(self), "summary": json_of(self.summary)}


def by_strategy(runs: Iterable[RunResult]) -> dict[str, list[RunResult]]:
    """The runs of each strategy, both in their given order."""
    groups: dict[str, list[RunResult]] = {}
    for run in runs:
        groups.setdefault(run.strategy, []).append(run)
    return groups


def summary(runs: Iterable[RunResult]) -> dict[str, StrategySummary]:
    """The scores of each strategy over its runs."""
    return {
        name: StrategySummary(
            n=len(group),
            test_accuracy=Mean.of(run.test_accuracy for run in group),
            test_macro_f1=Mean.of(run.test_macro_f1 for run in group),
            test_loss=Mean.of(run.test_loss for run in group),
        )
        for name, group in by_strategy(runs).items()
    }


def mean_cost(runs: Sequence[RunResult]) -> RunCost:
    """The mean of each cost over a strategy's runs; None where it wasn't measured in every run."""
    return RunCost(**{name: Mean.of(getattr(run.cost, name) for run in runs).mean for name in COSTS})
