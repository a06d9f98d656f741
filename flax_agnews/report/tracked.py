"""The tables that trackers show: the final table, the runs, and the predictions of test texts, as plain values."""

from collections.abc import Sequence
from typing import Any

from flax_agnews.report.answer import Answer, Entry
from flax_agnews.report.evidence import Evidence
from flax_agnews.runs.results import COSTS, RunResult, mean_cost
from flax_agnews.statistics.intervals import Interval

Table = tuple[list[str], list[list[Any]]]
"""Names of the columns, and the rows."""

_SCORES = ("accuracy", "macro_f1", "loss")
_OF_RUN = ["strategy", "seed", "test_accuracy", "test_macro_f1", "trainable_parameters"]


def answer_table(answer: Answer) -> Table:
    """The final table: a row for each strategy and reference, by rank; unknown values are None.

    Scores are means over the runs on the test texts, each with the bounds of its 95 % interval; costs are means.
    """
    bounds = [f"{score}{end}" for score in _SCORES for end in ("", "_low", "_high")]
    columns = ["rank", "strategy", "seeds", *bounds, "trainable_parameters", "total_parameters", *COSTS]
    return columns, [_entry_row(answer, entry) for entry in answer.entries]


def runs_table(runs: Sequence[RunResult]) -> Table:
    """The scores of each run."""
    return _OF_RUN, [[getattr(run, column) for column in _OF_RUN] for run in runs]


def prediction_table(evidence: Evidence, strategy: str, contents: Sequence[str | tuple[str, str]] | None) -> Table:
    """The predictions of a strategy's runs: a row for each seed and test text.

    Args:
        evidence: the predictions.
        strategy: name of the strategy.
        contents: the test texts, which get a column; None leaves them out.
    """
    columns = ["strategy", "seed", "text", "label", "predicted", "probability_of_label"]
    rows = []
    for seed, predictions in evidence.runs[strategy].items():
        test, classes = predictions.splits["test"], predictions.classes
        labels, answers = test.labels.tolist(), test.answers.tolist()
        chances = test.probabilities[range(len(labels)), test.labels].tolist()
        for text, (label, answer, chance) in enumerate(zip(labels, answers, chances, strict=True)):
            rows.append([strategy, seed, text, classes[label], classes[answer], chance])
    if contents is None:
        return columns, rows
    return [*columns, "content"], [[*row, _content(contents[row[2]])] for row in rows]


def _entry_row(answer: Answer, entry: Entry) -> list[Any]:
    numbers = answer.results.summary.get(entry.name)
    means = {"accuracy": entry.mean, "macro_f1": numbers.test_macro_f1.mean if numbers else None, "loss": None}
    scores = [value for score in _SCORES for value in _bounds(getattr(entry, score), means[score])]
    if entry.reference:
        costs = {"train_seconds": entry.reference.seconds}
        sizes = [entry.reference.parameters, entry.reference.parameters]
    else:
        run, cost = entry.runs[0], mean_cost(entry.runs)
        costs = {name: getattr(cost, name) for name in COSTS}
        sizes = [run.trainable_parameters, run.total_parameters]
    seeds = len(entry.runs) or None
    return [entry.rank, entry.name, seeds, *scores, *sizes, *(costs.get(name) for name in COSTS)]


def _bounds(found: Interval | None, mean: float | None) -> list[float | None]:
    """A score's mean with the bounds of its interval; the mean alone where there is no interval."""
    return [found.mean, found.low, found.high] if found else [mean, None, None]


def _content(text: str | tuple[str, str]) -> str:
    return text if isinstance(text, str) else "\n".join(text)
