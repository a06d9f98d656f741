"""Simulated experiments: outcomes of strategies over seeds and texts with known means."""

import numpy as np
from numpy.typing import NDArray
from scipy import special


def equal_strategies(
    rng: np.random.Generator,
    shape: tuple[int, int, int, int],
    *,
    seeds: float,
    texts: float,
    shared_seeds: float = 0.0,
    shared_texts: float = 2.0,
) -> NDArray[np.float64]:
    """Values [experiments, strategies, seeds, texts] whose true mean is 0 for every strategy; the rest has sd 1.

    Args:
        rng: source of random numbers.
        shape: numbers of experiments, strategies, seeds, texts.
        seeds, texts: sd of each strategy's own effects of seeds and of texts.
        shared_seeds, shared_texts: sd of the effects that all strategies have in common.
    """
    n, strategies, s, t = shape
    values = rng.standard_normal(shape)
    values += seeds * rng.standard_normal((n, strategies, s, 1)) + texts * rng.standard_normal((n, strategies, 1, t))
    values += shared_seeds * rng.standard_normal((n, 1, s, 1)) + shared_texts * rng.standard_normal((n, 1, 1, t))
    return values


def right(values: NDArray[np.float64], accuracy: float, variance: float) -> NDArray[np.float64]:
    """1 (right) or 0 for every normal value of this total variance, with this true accuracy."""
    return (values > -np.sqrt(variance) * special.ndtri(accuracy)).astype(np.float64)
