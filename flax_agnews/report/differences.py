"""The report's section on each strategy's difference from the best one, with intervals and paired t-tests."""

from collections.abc import Iterator, Mapping

from flax_agnews.report.tables import ranked
from flax_agnews.runs.results import Results
from flax_agnews.statistics.seeds import PairedDifference, paired_difference
from flax_agnews.system.text import NOT_KNOWN, escape, pipe_table

_FEW_SEEDS = 5  # fewer are reported as too few


def differences(results: Results) -> Iterator[str]:
    """The section's paragraphs; none where only one strategy ran."""
    best, *others = ranked(results)
    if not others:
        return
    scores = {name: {run.seed: run.test_accuracy for run in runs} for name, runs in results.by_strategy.items()}
    pairs = {name: paired_difference(scores[name], scores[best]) for name in others}
    yield f"## Differences from {escape(best)}"
    yield pipe_table(
        ("strategy", "points of accuracy", "95 % interval", "p", "seeds in common"),
        [(name, *_cells(pair)) for name, pair in pairs.items()],
    )
    if any(pair.p is not None for pair in pairs.values()):
        yield (
            "Paired by seed: Student's t-interval of the mean difference, and p of the paired t-test. Both "
            f"are about the seeds, not about other test texts. {escape(best)} was chosen by these same "
            "scores, which favours it, and p is not corrected for the number of comparisons."
        )
    yield from _caveats(pairs)


def _cells(pair: PairedDifference) -> tuple[str, ...]:
    """The table's cells of a strategy: mean difference, interval, p, and number of common seeds."""
    interval = NOT_KNOWN
    if pair.low is not None and pair.high is not None:
        interval = f"{_points(pair.low)} to {_points(pair.high)}"
    return _points(pair.mean), interval, _p_text(pair.p), str(pair.n)


def _points(share: float | None) -> str:
    return NOT_KNOWN if share is None else f"{100 * share:+.2f}"


def _p_text(p: float | None) -> str:
    if p is None:
        return NOT_KNOWN
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _caveats(pairs: Mapping[str, PairedDifference]) -> Iterator[str]:
    """Paragraphs on what too few, or equal, differences don't show."""
    counts = {pair.n for pair in pairs.values()}
    fewest_several = min((count for count in counts if count > 1), default=_FEW_SEEDS)
    if 0 in counts:
        yield "A strategy without a seed in common with the best one can't be paired with it."
    if 1 in counts:
        yield (
            "1 seed says nothing about the noise of seeds: no interval can be given, "
            "and the order of the strategies may be chance."
        )
    if fewest_several < _FEW_SEEDS:
        yield (
            f"{fewest_several} seeds say little: the interval is wide, and it takes the differences to be "
            f"normally distributed, which so few cannot show. {_FEW_SEEDS} or more say more."
        )
    if any(pair.n > 1 and pair.sd == 0 for pair in pairs.values()):
        yield (
            "Where every seed gave the same difference there is no interval: "
            "a few equal values don't show that there is no noise."
        )
