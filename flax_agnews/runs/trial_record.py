"""The plan of a search for rates by successive halving, and what is kept of it in the output folder.

Karnin et al. 2013 (https://proceedings.mlr.press/v28/karnin13.html), for hyperparameters Jamieson & Talwalkar 2016
(https://arxiv.org/abs/1502.07943): every round costs the same, and the better half goes on to the next, a longer one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError, listed
from flax_agnews.runs.identity import changed
from flax_agnews.system.files import read_json, settings_from


def grid(trials: int) -> list[float]:
    """Factors in steps of 10^(1/2), ascending; of an odd number 1, the default, is in the middle, else below it."""
    below = (trials - 1) // 2
    return [10 ** (step / 2) for step in range(-below, trials - below)]


def halving(trials: int, steps: int, budget: float) -> list[int]:
    """For each round, how many updates of every epoch each factor that is left gets: all, a half, a third or so on.

    Args:
        trials: factors; half of them, rounded up, are left after each round, until it is one.
        steps: updates of an epoch; a trial gets at least one of them.
        budget: of all rounds, in runs; each gets the same share of it.
    """
    rounds, each = math.ceil(math.log2(trials)), []
    for _ in range(rounds):
        each.append(max(1, steps // math.ceil(trials * rounds / budget)))
        trials = half(trials)
    return each


def half(trials: int) -> int:
    """How many go on."""
    return math.ceil(trials / 2)


@dataclass(frozen=True)
class Trial:
    """A trial of a learning-rate search: a short training run with all of a strategy's rates times a factor.

    Attributes:
        factor: on the strategy's rates.
        updates: of the trial.
        val_accuracy, val_loss: of its best epoch on validation; None where its numbers were not finite.
    """

    factor: float
    updates: int
    val_accuracy: float | None
    val_loss: float | None

    @property
    def rank(self) -> tuple[float, ...]:
        """Sort key, the best trial first: by accuracy, then loss, then nearness to factor 1; not finite is last."""
        accuracy, loss = self.val_accuracy, self.val_loss
        scores = (math.inf, math.inf) if accuracy is None or loss is None else (-accuracy, loss)
        return (*scores, abs(math.log(self.factor)), self.factor)


@dataclass(frozen=True, kw_only=True)
class SearchCost:
    """Seconds that a learning-rate search took, with compiling and caching."""

    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """A finished learning-rate search of one strategy.

    Attributes:
        factor: the chosen one, on all of the strategy's rates.
        rates: the strategy's learning rates after the search.
        edge: `lowest` or `highest` where the chosen factor is the first or last that was tried; else empty.
        trials: all of them, in the order in which they ran.
        updates: of all trials together.
        cost: its seconds.
    """

    factor: float
    rates: list[float]
    edge: str
    trials: list[Trial]
    updates: int
    cost: SearchCost


@dataclass
class Record:
    """A strategy's search.

    Attributes:
        identity: what it is a search for.
        trials: those that are finished, in order.
        factor, rates: what was chosen; None and empty until then.
        seconds: that it took, with compiling and caching.
    """

    identity: dict[str, str]
    trials: list[Trial] = field(default_factory=list)
    factor: float | None = None
    rates: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def of(cls, content: Any) -> "Record":
        """What `asdict` made of one. TypeError where it is something else."""
        record = settings_from(cls, content)
        record.trials = [settings_from(Trial, trial) for trial in record.trials]
        factors = {trial.factor for trial in record.trials}
        sound = all(0 < factor < math.inf for factor in factors) and record.factor in {None, *factors}
        if not sound or not all(type(rate) is float for rate in record.rates):
            raise TypeError("factors are above 0, the chosen one is one of them, and rates are numbers")
        return record

    def ranked(self, factors: Sequence[float], updates: int) -> list[float]:
        """Factors that all had trials of so many updates, the best first."""
        ranks = {trial.factor: trial.rank for trial in self.trials if trial.updates == updates}
        return sorted(factors, key=lambda factor: ranks[factor])

    @property
    def best(self) -> Trial:
        """The chosen factor's longest trial."""
        return max((t for t in self.trials if t.factor == self.factor), key=lambda trial: trial.updates)

    @property
    def edge(self) -> str:
        """Whether the chosen factor is the `lowest` or the `highest` that was tried; else empty."""
        tried = [trial.factor for trial in self.trials]
        return "lowest" if self.factor == min(tried) else "highest" if self.factor == max(tried) else ""

    @property
    def result(self) -> SearchResult | None:
        """The search as results.json has it; None where it isn't finished."""
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
    """Where a strategy's record is, in an output folder."""
    return folder / "search" / f"{name}.json"


def read(folder: Path, name: str) -> Record | None:
    """A strategy's record; None where there is none. UserError where it is no such thing."""
    path = path_of(folder, name)
    content = read_json(path)
    try:
        return None if content is None else Record.of(content)
    except TypeError:
        raise UserError(f"{path}: is no search of this program; remove it to have it made anew") from None


def read_own(folder: Path, name: str, identity: Mapping[str, str]) -> Record:
    """A strategy's record, or a new one. UserError where it is of a search for something else.

    What is `PLANNED` is left to `schemes.Scheme`. Rates stay as they were chosen when the number of epochs grows; a
    search that wasn't over then begins anew, since its trials would be of other lengths.
    """
    record = read(folder, name) or Record(dict(identity))
    shorter = record.identity.get("steps", identity.get("steps")) != identity.get("steps")
    if record.factor is None and shorter:
        return Record(dict(identity))
    if other := changed(record.identity, identity):
        told = f"{path_of(folder, name)}: was begun with other {listed(other)}"
        raise UserError(f"{told}. Choose another --output, or --overwrite")
    return record


def results(folder: Path) -> dict[str, SearchResult]:
    """All finished searches of an output folder, by strategy."""
    names = sorted(path.stem for path in path_of(folder, "").parent.glob("*.json"))
    records = {name: read(folder, name) for name in names}
    return {name: result for name, record in records.items() if record and (result := record.result)}
