"""The report's section on each entry's difference from the first one, paired by seed and text."""

from collections.abc import Iterator

from flax_agnews.report.answer import Answer
from flax_agnews.statistics.comparisons import Difference
from flax_agnews.system.text import NOT_KNOWN, escape, p_text, pipe_table


def differences(answer: Answer) -> Iterator[str]:
    """The section's paragraphs; none where nothing was paired."""
    compared = [entry.name for entry in answer.entries if entry.rank is not None]
    if len(compared) < 2 or not answer.strategies[0].accuracy:
        return
    first = answer.strategies[0].name
    pairs = {name: answer.difference(name, first) for name in compared if name != first}
    found = {name: pair for name, pair in pairs.items() if pair and pair.mean is not None}
    with_p = any(pair.p_holm is not None for pair in found.values())
    yield f"## Differences from {escape(first)}"
    header = ("", "points of accuracy", "95 % interval", "seeds in common", *(["p"] if with_p else []))
    yield pipe_table(header, [(name, *_cells(pair)[: len(header) - 1]) for name, pair in found.items()])
    yield (
        "Paired by seed and by test text: every run is compared with the run of the same seed on the same texts. The "
        "interval is of one difference by itself, for other seeds and texts; ranks ask for more, since among many "
        "differences some intervals miss zero by chance." + (_of_p(answer) if with_p else "")
    )


def _cells(pair: Difference) -> tuple[str, ...]:
    """The table's cells of an entry: mean difference, interval, number of common seeds, and p."""
    assert pair.mean is not None
    interval = NOT_KNOWN
    if pair.low is not None and pair.high is not None:
        interval = f"{_points(pair.low)} to {_points(pair.high)}"
    return _points(pair.mean), interval, NOT_KNOWN if pair.n_seeds is None else str(pair.n_seeds), p_text(pair.p_holm)


def _of_p(answer: Answer) -> str:
    return (
        f" p is corrected for all {len(answer.differences)} pairs (Holm): where all strategies are equal, one is below "
        "0.05 in at most one of 20 experiments."
    )


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"
