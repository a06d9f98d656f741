"""What the searches for learning rates chose, for the pages of benchmarks."""

from collections.abc import Iterator, Mapping

from flax_agnews.report.answer import Answer
from flax_agnews.training.rates import short


def rate_rows(answer: Answer) -> Iterator[tuple[str, ...]]:
    """Rows of the table of rates, one per strategy that has searched.

    A row has the strategy's name, its rates, their factor on the rates in the middle of the search, and the validation
    accuracies of the first round of trials: at factor 1 and at the best.
    """
    for entry in answer.strategies:
        search = (answer.results.search or {}).get(entry.name)
        if search is None:
            continue
        first = [trial for trial in search.trials if trial.updates == search.trials[0].updates]
        default = next((trial.val_accuracy for trial in first if trial.factor == 1), None)
        best = max(trial.val_accuracy or 0 for trial in first)
        rates = sorted({short(float(f"{rate:.3g}")) for rate in search.rates}, key=float)
        yield (
            entry.name,
            ", ".join(rates) if len(rates) < 3 else f"{rates[0]} to {rates[-1]}",
            f"x {search.factor:.3g}" + (f" ({search.edge} tried)" if search.edge else ""),
            f"{default or 0:.3f}, {best:.3f}",
        )


def edges(answers: Mapping[str, Answer]) -> str:
    """A sentence on chosen rates that are the lowest or highest that were tried.

    Args:
        answers: what was compared, such as `500 texts` -> its answer.
    """
    found = [
        f"{name} on {what} ({search.edge})"
        for what, answer in answers.items()
        for name, search in (answer.results.search or {}).items()
        if search.edge
    ]
    if not found:
        return "No chosen rate is the lowest or highest that was tried."
    return f"The lowest or highest rate that was tried, so that better ones may lie beyond: {', '.join(found)}."
