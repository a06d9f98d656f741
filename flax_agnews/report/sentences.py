"""The answer in words: two sentences for the top of a report, and notes on what the runs can't carry."""

from collections.abc import Iterator

from flax_agnews.errors import listed
from flax_agnews.report.answer import Answer, Entry
from flax_agnews.report.evidence import TITLES
from flax_agnews.runs.references import MAJORITY, TFIDF
from flax_agnews.statistics.comparisons import FEWEST_SEEDS, Difference
from flax_agnews.statistics.intervals import Interval
from flax_agnews.system.text import counted


def sentences(answer: Answer) -> tuple[str, str]:
    """The answer in two plain sentences: which strategies lead and how surely; how they stand to the reference."""
    return _first(answer), _second(answer)


def notes(answer: Answer) -> list[str]:
    """Further sentences: what the number of seeds allows, choosing among strategies, missing predictions."""
    return [*_seeds(answer), *_unbeaten(answer), *_choice(answer), *answer.evidence.notes]


def _first(answer: Answer) -> str:
    best, *others = answer.strategies
    texts = counted(answer.results.data.test, "test text")
    if best.accuracy is None:
        mean = f"{best.name} has {percent(best.mean)} of {texts} right"
        order = f", the highest mean of {counted(len(answer.strategies), 'strategy')}" if others else ""
        return f"{mean}{order}; no predictions are kept that could say how sure that is."
    if not others:
        return f"{best.name} has {_score(best, texts)}."
    if not answer.ranked:
        return _unranked(answer, best, others[0], texts)
    leaders = [entry.name for entry in answer.strategies if entry.rank == 1]
    if len(leaders) == 1:
        shown = "shown against " + (others[0].name if len(others) == 1 else f"each of the other {len(others)}")
        return f"{best.name} is best, {shown}: {_score(best, texts)}."
    worse = len(answer.strategies) - len(leaders)
    rest = f"; {counted(worse, 'strategy')} {'is' if worse == 1 else 'are'} shown to be worse" if worse else ""
    return (
        f"{listed(leaders, 13)} can't be told apart and share rank 1; {best.name} has the highest mean, "
        f"{_score(best, texts)}{rest}."
    )


def _unranked(answer: Answer, best: Entry, second: Entry, texts: str) -> str:
    """The first sentence where the seeds are too few for a rank."""
    runs = counted(max(len(entry.runs) for entry in answer.strategies), "seed")
    found = answer.difference(best.name, second.name)
    gap = f"; {difference_text(found)} more than {second.name}, the next" if found and found.mean is not None else ""
    return f"{runs} each can't show an order: {best.name} has the highest mean, {_score(best, texts)}{gap}."


def _second(answer: Answer) -> str:
    reference = next((entry for entry in answer.references if entry.name == TITLES[TFIDF]), None)
    best = answer.strategies[0]
    if reference is None:
        return "No cheap reference stands beside it, so that nothing shows whether fine-tuning pays."
    found, same = answer.difference(best.name, reference.name), "TF-IDF with logistic regression on the same rows"
    score = percent(reference.mean)
    if found is None or found.mean is None:
        return f"{same} has {score}."
    if found.mean <= 0:
        return f"It does not beat the cheap reference: {same} has {score}."
    if found.shown:
        return f"It beats the cheap reference, {same} with {score}, by {difference_text(found)}."
    return f"The cheap reference, {same}, has {score}: {difference_text(found)} less, which these runs can't show."


def _seeds(answer: Answer) -> Iterator[str]:
    """What the number of seeds allows, and how many would show the difference that is seen."""
    if answer.strategies[0].accuracy is None:
        return
    few = min(len(entry.runs) for entry in answer.strategies)
    if few == 1:
        yield "With one seed an interval has the noise of the test texts only: other seeds may give other scores."
    elif few < 3:
        yield "Intervals from two seeds are rough: they may miss more often than in 5 % of experiments."
    if len(answer.strategies) > 1 and not answer.ranked:
        yield f"Fewer than {FEWEST_SEEDS} seeds in common carry no claim: ranks are shared and no p is given."
    if len(answer.strategies) > 1 and (need := needed_text(answer)):
        yield need


def needed_text(answer: Answer) -> str:
    """How many seeds would show the difference of the two strategies with the highest means; empty if it is shown."""
    first, second = answer.strategies[:2]
    found = answer.difference(first.name, second.name)
    if found is None or found.needed is None or not found.mean:
        return ""
    need, what = (
        found.needed,
        f"A difference like that of {first.name} and {second.name}, {_points(found.mean)} points,",
    )
    if need.seeds:
        return f"{what} would take at least {need.seeds} seeds to be shown, if the noise stays as it is seen here."
    if need.limit == "texts":
        return f"{what} could not be shown by any number of seeds: the test texts are too few."
    if need.limit == "seeds":
        return f"{what} would take more than 100 seeds to be shown."
    return ""


def _unbeaten(answer: Answer) -> Iterator[str]:
    """Names the strategies that aren't shown to beat a reference."""
    for reference in answer.references:
        if reference.name == TITLES[MAJORITY]:
            continue  # the report's head names the runs that learned nothing
        worse = [
            entry.name
            for entry in answer.strategies
            if (found := answer.difference(entry.name, reference.name)) and (found.mean or 0) <= 0
        ]
        if worse:
            yield f"No better than {reference.name} ({percent(reference.mean)}): {listed(worse, 13)}."


def _choice(answer: Answer) -> Iterator[str]:
    """The strategy that validation chooses, and its score without the luck of the choice."""
    found = answer.selected
    if found is None:
        return
    corrected = ""
    if found.corrected is not None:
        corrected = f", and {percent(found.corrected.mean)} without the luck of choosing{_interval(found.corrected)}"
    yield (
        f"Strategies and epochs may be chosen on validation only: it chooses {found.name}, "
        f"with {percent(found.test)} on test{corrected}."
    )


def _score(entry: Entry, texts: str) -> str:
    assert entry.accuracy is not None
    return f"{percent(entry.mean)} of {texts} right{_interval(entry.accuracy)}"


def _interval(found: Interval) -> str:
    """` (95 % interval 88.9 to 92.2 for other seeds and texts)`, or nothing."""
    if found.low is None or found.high is None:
        return ""
    of = "seeds and texts" if found.seeds_known and found.n_seeds else "texts"
    return f" (95 % interval {100 * found.low:.1f} to {100 * found.high:.1f} for other {of})"


def difference_text(found: Difference) -> str:
    """`0.3 points (95 % interval -1.0 to 1.6)`."""
    assert found.mean is not None
    if found.low is None or found.high is None:
        return f"{_points(found.mean)} points"
    return f"{_points(found.mean)} points (95 % interval {100 * found.low:.1f} to {100 * found.high:.1f})"


def _points(share: float) -> str:
    return f"{100 * abs(share):.1f}"


def percent(share: float) -> str:
    """A share as `90.7 %`."""
    return f"{100 * share:.1f} %"
