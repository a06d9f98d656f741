"""The choice by validation: naive loops, and the bias of chosen strategies' scores by simulation."""

import numpy as np
import pytest
from numpy.typing import NDArray
from support.crossed_effects import equal_strategies

from flax_agnews.statistics.outcomes import Outcomes
from flax_agnews.statistics.selection import selected


def outcomes(values: NDArray[np.float64], share: bool = False) -> dict[str, Outcomes]:
    """Name -> outcomes, of [strategies, seeds, texts]."""
    return {f"s{number}": Outcomes(one, tuple(range(len(one))), share) for number, one in enumerate(values)}


@pytest.mark.parametrize("larger_is_better", [True, False])
def test_every_left_out_seed_is_tested_with_what_the_others_choose(larger_is_better: bool) -> None:
    rng, better = np.random.default_rng(1), max if larger_is_better else min
    validation, test = rng.normal(size=(4, 5, 7)), rng.normal(size=(4, 5, 9))
    expected, chosen = [], []
    for seed in range(5):
        others = [other for other in range(5) if other != seed]
        best = better(range(4), key=lambda s: validation[s, others].mean())
        chosen.append(best)
        expected.append(test[best, seed].mean())
    found = selected(outcomes(validation), outcomes(test), larger_is_better)
    assert len(set(chosen)) > 1
    assert found.chosen == {f"s{s}": chosen.count(s) for s in sorted(set(chosen))}
    assert found.corrected is not None
    assert found.corrected.mean == pytest.approx(np.mean(expected))
    winner = better(range(4), key=lambda s: validation[s].mean())
    best_on_test = better(range(4), key=lambda s: test[s].mean())
    assert (found.name, found.best_on_test) == (f"s{winner}", f"s{best_on_test}")
    assert found.validation == pytest.approx(validation[winner].mean())
    assert found.test == pytest.approx(test[winner].mean())
    assert found.test_of_best == pytest.approx(test[best_on_test].mean())
    assert found.optimism == pytest.approx(found.test - np.mean(expected))


def test_a_clear_winner_is_reported_at_face_value() -> None:
    values = np.random.default_rng(1).random((3, 4, 20)) * 0.1 + np.array([0.1, 0.8, 0.3])[:, None, None]
    found = selected(outcomes(values, share=True), outcomes(values, share=True))
    assert (found.name, found.chosen, found.optimism) == ("s1", {"s1": 4}, pytest.approx(0))
    assert found.corrected is not None
    assert found.corrected.promised is False


def test_one_seed_cannot_be_corrected_and_only_common_seeds_are() -> None:
    rng = np.random.default_rng(2)
    values = {"a": Outcomes(rng.random((2, 9)), (1, 2), False), "b": Outcomes(rng.random((2, 9)), (2, 3), False)}
    found = selected(values, values)
    assert (found.corrected, found.optimism, found.chosen) == (None, None, {})
    fixed = values | {"b": Outcomes(rng.random((1, 9)), None, False)}
    corrected = selected(fixed, fixed).corrected
    assert corrected is not None
    assert corrected.n_seeds == 2


@pytest.mark.parametrize("step", [0.0, 0.01], ids=["equal", "unequal"])
def test_the_corrected_score_has_no_bias_where_face_values_do(step: float) -> None:
    """Thirteen strategies whose seeds spread more than they differ: what is said of the chosen one, less the truth."""
    rng, experiments = np.random.default_rng(3), 400
    truth = step * np.arange(13)
    face, best, corrected = [], [], []
    for _ in range(experiments):
        drawn = equal_strategies(rng, (1, 13, 5, 100), seeds=0.3, texts=0.5, shared_texts=0.0)[0]
        drawn += truth[:, None, None]
        found = selected(outcomes(drawn[..., :50]), outcomes(drawn[..., 50:]))
        assert found.corrected is not None
        true = truth[int(found.name[1:])]
        face.append(found.test - true)
        best.append(found.test_of_best - truth[int(found.best_on_test[1:])])
        corrected.append(found.corrected.mean - true)
    error = np.std(corrected) / np.sqrt(experiments)
    # The choice by one seed fewer is a little worse where strategies differ: a tenth of a seed's spread is allowed.
    assert abs(np.mean(corrected)) < 3 * error + (0.03 if step else 0)
    assert np.mean(face) > 0.1
    assert np.mean(best) > np.mean(face)
