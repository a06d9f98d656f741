"""The contents of `result.json` (one finished run) and `results.json` (an experiment), as dataclasses.

Their fields are the files' fields, in the files' order. A field without a default is always written, as null where it
is None. A field that has its default value is left out of the file: older files lack it, or it concerns few runs.
`runs/result_files.py` reads and writes the files.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any

from flax_agnews.data.checks import DataCheck
from flax_agnews.runs.trial_record import SearchResult
from flax_agnews.statistics.seeds import summarize

SCHEMA = 1
"""Version of the format of results.json; files of another version aren't read."""


def json_of(value: Any) -> Any:
    """Converts a dataclass of this file, or lists and dictionaries of them, to plain JSON values."""
    if is_dataclass(value):
        items = ((field, getattr(value, field.name)) for field in fields(value))
        return {f.name: json_of(item) for f, item in items if f.default is MISSING or item != f.default}
    if isinstance(value, dict):
        return {name: json_of(item) for name, item in value.items()}
    return [json_of(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, kw_only=True)
class RunCost:
    """Time, speed and memory of a run, which vary from machine to machine; None where one was not measured.

    Attributes:
        train_seconds: time of the updates, without compilation and evaluation.
        compile_seconds, cache_seconds: time to compile, and to compute and cache the frozen layers' output; once for
            all runs of the strategy.
        pretrain_seconds: time of language modelling, once for all runs.
        tokens_per_second: real tokens trained on per second, padding excluded.
        peak_memory_bytes: the most memory in use during training.
        tokens: real tokens trained on, in all epochs.
        seconds_to_95: as `train_seconds`, to the end of the first epoch whose validation accuracy is at least 95 % of
            that of `best_epoch`.
        flop: floating-point operations of training on the real tokens, by the formula of `training/flops.py`.
        optimizer_bytes: size of the optimizer's state.
        kept_bytes: size in float32 of what must be kept for each task beside the body: trained and added values.
    """

    train_seconds: float | None
    compile_seconds: float | None
    cache_seconds: float | None
    pretrain_seconds: float | None
    tokens_per_second: float | None
    peak_memory_bytes: float | None
    tokens: float | None = None
    seconds_to_95: float | None = None
    flop: float | None = None
    optimizer_bytes: float | None = None
    kept_bytes: float | None = None


COSTS = tuple(field.name for field in fields(RunCost))
"""Names of the fields of `RunCost`."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A finished run, the content of `result.json`. Accuracies and F1 are shares, 0 to 1; losses are in nats.

    A loss that isn't finite is None.

    Attributes:
        strategy, seed: name of the strategy, and seed of the run.
        test_accuracy, test_loss, test_macro_f1, test_confusion: scores on the test split with the weights of
            `best_epoch`; the confusion matrix in the form of `metrics.scores.confusion_record`.
        train_accuracy, train_loss: means over each epoch's batches during training.
        val_accuracy, val_loss, val_macro_f1: scores on the validation split after each epoch.
        best_epoch: the epoch, from 1, with the best validation accuracy.
        planned_epochs: `train.epochs` of the call that finished the run.
        stopped_early: whether early stopping ended it before that.
        skipped_updates: number of updates left out because their numbers were not finite.
        trainable_parameters, total_parameters: number of scalars that train, and of all in the adapted model.
        settings: settings of the strategy.
        rate_factor: factor on the strategy's learning rates that a search chose; None without a search.
        custom: whether the strategy is defined by a script, not registered.
        environment: versions and machine of a run whose results were merged with others'; None: as in results.json.
        cost: time, speed and memory.
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
    environment: dict[str, Any] | None = None
    cost: RunCost

    @property
    def epochs(self) -> int:
        """Number of epochs that the run trained for."""
        return len(self.val_accuracy)

    @property
    def best_val_accuracy(self) -> float:
        """The best validation accuracy, by which the best of several runs is chosen; -1 where there is none."""
        return max((value for value in self.val_accuracy if value is not None), default=-1.0)


@dataclass(frozen=True, kw_only=True)
class DataResult:
    """The data set of an experiment; fields that an older file lacks are None.

    Attributes:
        source: name of the data set.
        notes: remarks on how the data were read.
        classes: names of the classes.
        class_texts: number of training texts of each class.
        train, validation, test: number of texts in each split.
        tokens_per_text, longest: mean and largest number of tokens of a training text.
        truncated: number of texts that were cut at `data.max_length`.
        majority_accuracy: test accuracy of always answering the most frequent class.
        padding_share: share of padding in the tokens computed in training.
        hash: hash of the texts and labels.
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
        name: hub id or directory; for random weights, the sizes.
        layers, width, parameters: number of layers, hidden size, and number of parameters.
        dtype: type that the model computes in.
        precision: `model.precision`, what products of float32 matrices may round to.
        products: the type to which they were rounded where the runs were computed, such as TF32; None in folders of
            earlier versions.
        base: hash of the weights.
        start: `model.start`, the model whose head or adapter gives start values.
    """

    name: str
    layers: int
    width: int
    parameters: int
    dtype: str
    precision: str = "default"
    products: str | None = None
    base: str | None = None
    start: str | None


@dataclass(frozen=True, kw_only=True)
class PretrainResult:
    """Language modelling on the training texts before the runs: number of epochs, and each one's loss, nats a token."""

    epochs: int
    loss: list[float | None]


@dataclass(frozen=True)
class Mean:
    """Mean of a score over a strategy's runs, with sd and 95 % t-interval, as in `seeds.Summary`.

    All are None where a run lacks the score: a mean over the runs that didn't diverge would flatter the strategy.
    """

    mean: float | None
    sd: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Mean":
        """Computes the mean of one value per run; None, NaN and infinity count as missing."""
        every = list(values)
        known = [float(value) for value in every if value is not None and math.isfinite(value)]
        if len(known) < len(every):
            return cls(None, None, None, None)
        found = summarize(known)
        return cls(found.mean, found.sd, found.low, found.high)


@dataclass(frozen=True)
class StrategySummary:
    """Mean scores of a strategy over its `n` runs."""

    n: int
    test_accuracy: Mean
    test_macro_f1: Mean
    test_loss: Mean


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results of an experiment, the content of `results.json`.

    Attributes:
        flax_agnews: version of the program.
        data, model, pretrain: data set, body and language modelling of all runs; `pretrain` is None without any.
        environment, settings: versions and machine, and the training settings, by name.
        search: name of a strategy -> its learning-rate search; None without searches.
        diverged: runs that stopped because their numbers were not finite, and where.
        checks: what was found in the texts; None where an earlier version didn't look.
        runs: the finished runs, sorted by strategy and seed.
    """

    flax_agnews: str | None
    data: DataResult
    model: ModelResult
    pretrain: PretrainResult | None
    environment: dict[str, Any]
    settings: dict[str, Any]
    search: dict[str, SearchResult] | None = None
    diverged: list[str]
    checks: list[DataCheck] | None = None
    runs: list[RunResult]

    @property
    def merged(self) -> bool:
        """Whether the runs are of several output folders."""
        return any(run.environment is not None for run in self.runs)

    @cached_property
    def by_strategy(self) -> dict[str, list[RunResult]]:
        """The runs of each strategy."""
        return by_strategy(self.runs)

    @cached_property
    def summary(self) -> dict[str, StrategySummary]:
        """The mean scores of each strategy over its runs; results.json has them too."""
        return summary(self.runs)

    @cached_property
    def json(self) -> dict[str, Any]:
        """The content of results.json."""
        return {"schema": SCHEMA, **json_of(self), "summary": json_of(self.summary)}


def by_strategy(runs: Iterable[RunResult]) -> dict[str, list[RunResult]]:
    """Groups runs by strategy, in the given order."""
    groups: dict[str, list[RunResult]] = {}
    for run in runs:
        groups.setdefault(run.strategy, []).append(run)
    return groups


def summary(runs: Iterable[RunResult]) -> dict[str, StrategySummary]:
    """The mean scores of each strategy over its runs."""
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
