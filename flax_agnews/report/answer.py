"""What a comparison says: scores with intervals, ranks, and differences, for every table, picture and page.

Nothing else in the report decides which strategy is better than which.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from flax_agnews.report.evidence import NOTHING, TITLES, Evidence, read_evidence
from flax_agnews.runs.references import MAJORITY, Reference
from flax_agnews.runs.results import Results, RunResult
from flax_agnews.statistics.comparisons import FEWEST_SEEDS, Difference, compare_all
from flax_agnews.statistics.intervals import Interval, interval
from flax_agnews.statistics.ranks import ranks
from flax_agnews.statistics.selection import Selected, selected


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A strategy, or a reference that stands beside the strategies, with its test scores.

    Attributes:
        name: name of the strategy, or title of the reference.
        rank: 1 + number of entries that are shown to be better; None without predictions, and for the majority class.
        mean: mean test accuracy over the runs.
        accuracy, macro_f1, loss: mean over the runs with the interval for other seeds and texts; None without
            predictions.
        runs: the strategy's runs; empty for a reference.
        reference: the reference; None for a strategy.
    """

    name: str
    rank: int | None
    mean: float
    accuracy: Interval | None = None
    macro_f1: Interval | None = None
    loss: Interval | None = None
    runs: Sequence[RunResult] = ()
    reference: Reference | None = None


@dataclass(frozen=True)
class Answer:
    """What the runs of an experiment say about its strategies.

    Attributes:
        results: the content of results.json.
        evidence: predictions of runs and references.
        entries: strategies and references, by rank and then by mean test accuracy, the best first.
        differences: test accuracies of all pairs of entries with a rank, paired by seed and text.
        selected: the strategy that validation chooses, and its score corrected for the choice; None where only one has
            predictions.
    """

    results: Results
    evidence: Evidence
    entries: Sequence[Entry]
    differences: Sequence[Difference]
    selected: Selected | None

    @cached_property
    def strategies(self) -> list[Entry]:
        """The entries that are strategies."""
        return [entry for entry in self.entries if entry.reference is None]

    @cached_property
    def references(self) -> list[Entry]:
        """The entries that are references."""
        return [entry for entry in self.entries if entry.reference]

    @property
    def ranked(self) -> bool:
        """Whether the runs can show a difference between any two entries: enough seeds in common."""
        return any(one.n_seeds is not None and one.n_seeds >= FEWEST_SEEDS for one in self.differences)

    def entry(self, name: str) -> Entry:
        """The entry of a name."""
        (found,) = [entry for entry in self.entries if entry.name == name]
        return found

    def difference(self, a: str, b: str) -> Difference | None:
        """Test accuracy of `a` minus that of `b`; None where they weren't compared."""
        for one in self.differences:
            if (one.a, one.b) == (a, b):
                return one
            if (one.a, one.b) == (b, a):
                return one.turned
        return None


def read_answer(folder: Path, results: Results) -> Answer:
    """The answer of an output folder, from its results.json and the predictions beside it."""
    return answer(results, read_evidence(folder, results))


def answer(results: Results, evidence: Evidence = NOTHING) -> Answer:
    """The answer of results and predictions; without predictions there are mean scores only."""
    outcomes = {name: evidence.accuracy(name) for name in evidence.names if name != TITLES[MAJORITY]}
    differences = compare_all(outcomes)
    places = ranks(outcomes, differences)
    entries = [_strategy(name, results, evidence, places.get(name)) for name in results.by_strategy]
    entries += [_reference(name, one, evidence, places.get(name)) for name, one in evidence.references.items()]
    # Without a rank an entry stands where its mean belongs, below all that have one and a higher mean.
    entries.sort(key=lambda entry: (-entry.mean, entry.reference is not None))
    entries.sort(key=lambda entry: entry.rank or max(places.values(), default=1))
    chosen = None
    if len(evidence.runs) > 1:
        on = {split: {n: evidence.accuracy(n, split) for n in evidence.runs} for split in ("validation", "test")}
        chosen = selected(on["validation"], on["test"])
    return Answer(results, evidence, entries, differences, chosen)


def _strategy(name: str, results: Results, evidence: Evidence, rank: int | None) -> Entry:
    runs, mean = results.by_strategy[name], results.summary[name].test_accuracy.mean
    assert mean is not None  # every finished run has a test accuracy
    entry = Entry(name=name, rank=rank, mean=mean, runs=runs)
    return _with_intervals(entry, evidence) if name in evidence.runs else entry


def _reference(name: str, reference: Reference, evidence: Evidence, rank: int | None) -> Entry:
    mean = float(evidence.accuracy(name).values.mean())
    return _with_intervals(Entry(name=name, rank=rank, mean=mean, reference=reference), evidence)


def _with_intervals(entry: Entry, evidence: Evidence) -> Entry:
    return replace(
        entry,
        accuracy=interval(evidence.accuracy(entry.name)),
        macro_f1=interval(evidence.macro_f1(entry.name)),
        loss=interval(evidence.loss(entry.name)),
    )
