"""Ranks of strategies in which those that can't be told apart share one."""

from collections.abc import Iterable

from flax_agnews.statistics.comparisons import Difference


def ranks(names: Iterable[str], differences: Iterable[Difference], larger_is_better: bool = True) -> dict[str, int]:
    """Name -> 1 + number of strategies that are shown to be better.

    Those that nobody is shown to be better than have rank 1. Without any difference that is shown, as below five
    common seeds, all do.

    Args:
        names: all strategies.
        differences: of all pairs, from `comparisons.compare_all`.
        larger_is_better: False for a loss.
    """
    found = dict.fromkeys(names, 1)
    for one in differences:
        if one.shown and one.mean is not None:
            found[one.b if (one.mean > 0) == larger_is_better else one.a] += 1
    return found
