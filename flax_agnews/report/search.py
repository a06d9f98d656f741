"""The report's section on the learning-rate search."""

from collections.abc import Iterator, Sequence

from flax_agnews.errors import listed
from flax_agnews.report.answer import Answer
from flax_agnews.runs.trial_record import Trial
from flax_agnews.system.text import NOT_KNOWN, counted, escape, pipe_table, seconds_text


def search(answer: Answer) -> Iterator[str]:
    """The section's paragraphs; none without a search."""
    results, found = answer.results, answer.results.search
    if not found:
        return
    yield "## How the rates were chosen"
    place = {name: number for number, name in enumerate(entry.name for entry in answer.strategies)}
    rows = [
        (
            name,
            _number(one.factor),
            _rates(one.rates),
            _scores(one.trials),
            f"{one.updates:,}",
            seconds_text(one.cost.seconds),
        )
        for name, one in sorted(found.items(), key=lambda item: place.get(item[0], len(place)))
    ]
    texts = counted(results.data.validation, "text")
    yield pipe_table(("strategy", "factor", "rates", "validation accuracy, by factor", "updates", "time"), rows)
    yield (
        "Before the comparison, by trials on the validation split alone: all rates of a strategy times a factor, and "
        "the better half of the factors again for longer (→). Trials are runs in miniature, of a seed that no run has: "
        f"with {texts} and one seed, factors of like accuracy can't be told apart."
    )
    if edges := [f"{escape(name)} ({one.edge})" for name, one in found.items() if one.edge]:
        yield f"> **At the edge of what was tried**: {listed(edges)}. Better rates may lie beyond."


def _rates(rates: Sequence[float]) -> str:
    """Learning rates as text, `0.0001, 0.0005`; of three or more, the lowest and the highest."""
    return ", ".join(map(_number, rates)) if len(rates) < 3 else f"{_number(rates[0])} to {_number(rates[-1])}"


def _scores(trials: Sequence[Trial]) -> str:
    """Validation accuracies by factor, in the order of the rounds: `1: 0.512 → 0.634, 3.16: 0.431`."""
    by_factor: dict[float, list[str]] = {}
    for trial in trials:
        accuracy = trial.val_accuracy
        by_factor.setdefault(trial.factor, []).append("not finite" if accuracy is None else f"{accuracy:.3f}")
    return ", ".join(f"{_number(factor)}: {' → '.join(by_factor[factor])}" for factor in sorted(by_factor))


def _number(value: float | None) -> str:
    return NOT_KNOWN if value is None else f"{value:.3g}"
