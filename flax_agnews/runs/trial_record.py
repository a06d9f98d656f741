"""Learning-rate search by successive halving: its rounds, and its record in the output folder.

Every round has the same total cost; the better half of its trials goes on to the next round, in which trials are longer
(Karnin et al. 2013, https://proceedings.mlr.press/v28/karnin13.html; for hyperparameters Jamieson & Talwalkar 2016,
https://arxiv.org/abs/1502.07943).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError
from flax_agnews.runs.identity import check_identity
from flax_agnews.system.files import read_json, settings_from


def grid(trials: int) -> list[float]:
    """The factors on the default learning rates that are tried, ascending in steps of 10^(1/2).

    Factor 1 is in the middle; with an even number of factors, one more is above 1 than below.
    """
    below = (trials - 1) // 2
    return [10 ** (step / 2) for step in range(-below, trials - below)]


def halving(trials: int, steps: int, budget: float) -> list[int]:
    """Updates per epoch of the trials in each round: all updates of an epoch, or a half, a third, and so on.

    Args:
        trials: number of factors; each round leaves half of them, rounded up, until one is left.
        steps: updates per epoch of a full run; a trial makes at least one per epoch.
        budget: cost of the whole search, in full training runs; each round gets the same share.
    """
    rounds, each = math.ceil(math.log2(trials)), []
    for _ in range(rounds):
        each.append(max(1, steps // math.ceil(trials * rounds / budget)))
        trials = half(trials)
    return each


def half(trials: int) -> int:
    """Number of trials that go on to the next round."""
    return math.ceil(trials / 2)


@dataclass(frozen=True)
class Trial:
    """A trial of a learning-rate search: a short training run with all of a strategy's learning rates times a factor.

    Attributes:
        factor: factor on the strategy's learning rates.
        updates: number of updates of the trial.
        val_accuracy, val_loss: scores on the validation split after the trial's best epoch; None where its numbers
            were not finite.
    """

    factor: float
    updates: int
    val_accuracy: float | None
    val_loss: float | None

    @property
    def rank(self) -> tuple[float, ...]:
        """Sort key, the best trial first: by accuracy, loss, nearness of the factor to 1; diverged trials are last."""
        accuracy, loss = self.val_accuracy, self.val_loss
        scores = (math.inf, math.inf) if accuracy is None or loss is None else (-accuracy, loss)
        return (*scores, abs(math.log(self.factor)), self.factor)


@dataclass(frozen=True, kw_only=True)
class SearchCost:
    """Duration of a learning-rate search in seconds, with compiling and caching."""

    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """A finished learning-rate search of one strategy.

    Attributes:
        factor: the chosen factor on all of the strategy's learning rates.
        rates: the learning rates with this factor.
        edge: `lowest` or `highest` where the chosen factor is the lowest or highest that was tried; else empty.
        trials: all trials, in the order in which they ran.
        updates: number of updates of all trials together.
        cost: duration of the search.
    """

    factor: float
    rates: list[float]
    edge: str
    trials: list[Trial]
    updates: int
    cost: SearchCost


@dataclass
class Record:
    """The learning-rate search of a strategy, the content of `search/STRATEGY.json`.

    Attributes:
        identity: hashes by name that must match before the search is resumed.
        trials: the finished trials, in the order in which they ran.
        factor, rates: the chosen factor, and the learning rates with it; None and empty until the search is finished.
        seconds: duration so far, with compiling and caching.
    """

    identity: dict[str, str]
    trials: list[Trial] = field(default_factory=list)
    factor: float | None = None
    rates: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def of(cls, content: Any) -> "Record":
        """Makes a record from the content of its file; a TypeError where that isn't a record."""
        record = settings_from(cls, content)
        record.trials = [settings_from(Trial, trial) for trial in record.trials]
        factors = {trial.factor for trial in record.trials}
        sound = all(0 < factor < math.inf for factor in factors) and record.factor in {None, *factors}
        if not sound or not all(type(rate) is float for rate in record.rates):
            raise TypeError("factors are above 0, the chosen one is one of them, and rates are numbers")
        return record

    def ranked(self, factors: Sequence[float], updates: int) -> list[float]:
        """Sorts factors by their trials of `updates` updates, the best first."""
        ranks = {trial.factor: trial.rank for trial in self.trials if trial.updates == updates}
        return sorted(factors, key=lambda factor: ranks[factor])

    @property
    def best(self) -> Trial:
        """The chosen factor's longest trial."""
        return max((t for t in self.trials if t.factor == self.factor), key=lambda trial: trial.updates)

    @property
    def edge(self) -> str:
        """`lowest` or `highest` where the chosen factor is the lowest or highest that was tried; else empty."""
        tried = [trial.factor for trial in self.trials]
        return "lowest" if self.factor == min(tried) else "highest" if self.factor == max(tried) else ""

    @property
    def result(self) -> SearchResult | None:
        """The search's entry in results.json; None where it isn't finished."""
        if self.factor is None:
            return None
        return SearchResult(
            factor=self.factor,
            rates=self.rates,
            edge=self.edge,
            trials=self.trials,
            updates=sum(trial.updates for trial in self.trials),
            cost=SearchCost(seconds=self.seconds),
        )


def path_of(folder: Path, name: str) -> Path:
    """The path of a strategy's record in an output folder."""
    return folder / "search" / f"{name}.json"


def read(folder: Path, name: str) -> Record | None:
    """Reads a strategy's record; None where there is none. UserError where the file isn't a record."""
    path = path_of(folder, name)
    content = read_json(path)
    try:
        return None if content is None else Record.of(content)
    except TypeError:
        raise UserError(f"{path}: is no search of this program; remove it to have it made anew") from None


def read_own(folder: Path, name: str, identity: Mapping[str, str]) -> Record:
    """Reads a strategy's record, or makes a new one. UserError where it has other hashes than `identity`.

    `PLANNED` hashes are compared by `experiment.continuation.Scheme`. When the number of epochs grows, a finished
    search is kept; an unfinished one starts again, since its trials would have other lengths.
    """
    record = read(folder, name) or Record(dict(identity))
    shorter = record.identity.get("steps", identity.get("steps")) != identity.get("steps")
    if record.factor is None and shorter:
        return Record(dict(identity))
    check_identity(path_of(folder, name), record.identity, identity)
    return record


def results(folder: Path) -> dict[str, SearchResult]:
    """All finished searches of an output folder, by strategy."""
    names = sorted(path.stem for path in path_of(folder, "").parent.glob("*.json"))
    records = {name: read(folder, name) for name in names}
    return {name: result for name, record in records.items() if record and (result := record.result)}
