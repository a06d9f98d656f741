"""Finds a strategy's learning rates: read from AdamW, measured by running any other transformation on small arrays."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import optax

from flax_agnews.config import TrainConfig
from flax_agnews.strategies.adamw import AdamW
from flax_agnews.strategies.plan import FROZEN, Plan
from flax_agnews.training.adapted_model import AdaptedModel, trained_parameters

_STEPS = 100  # assumed updates per epoch, while there is no data


def nominal_plan(layers: int, train: TrainConfig) -> Plan:
    """Makes a plan while there is no data yet; without warm-up, so that its first update has the highest rate.

    Args:
        layers: number of layers of the body.
        train: settings of training.
    """
    return Plan(_STEPS * train.epochs, _STEPS, train.batch_size, layers, replace(train, warmup_fraction=0.0))


def peak_rates(model: AdaptedModel, plan: Plan) -> dict[str, tuple[float, float]]:
    """Path of each trained parameter -> (its highest learning rate, its weight decay in units of that rate)."""
    trained, found = trained_parameters(model, plan).paths, dict[str, tuple[float, float]]()
    for label, transform in model.strategy.transforms(plan).items():
        shapes = {
            path: shape for path, shape in model.shapes.items() if path in trained and model.labels[path] == label
        }
        if shapes and transform != FROZEN:
            found |= read_rates(transform, shapes) or measured_rates(transform, shapes, plan)
    return found


def read_rates(
    transform: optax.GradientTransformation, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[float, float]]:
    """As `measured_rates`, of the package's AdamW; empty for another transformation, or if its first rate is zero."""
    if not isinstance(transform, AdamW) or not (rate := float(transform.schedule(0))):
        return {}
    leaves = {path: jax.ShapeDtypeStruct(shape, np.float32) for path, shape in shapes.items()}
    decays = dict.fromkeys(shapes, True) if transform.mask is None else transform.mask(leaves)
    return {path: (rate, transform.weight_decay if decays[path] else 0.0) for path in shapes}


def different(rates: Iterable[float]) -> list[float]:
    """The distinct learning rates, rounded to three digits, ascending."""
    return sorted({float(f"{rate:.3g}") for rate in rates})


def strategy_rates(model: AdaptedModel, train: TrainConfig) -> list[float]:
    """The distinct peak learning rates of a model's strategy, ascending, without the factor of a search."""
    plan = nominal_plan(model.base.config.n_layer, train)
    return different(rate for rate, _ in peak_rates(model, plan).values())


def short(number: float) -> str:
    """A learning rate as text: `5e-5` for 0.00005, and `0.01` from hundredths up."""
    if not 0 < number < 0.01:
        return f"{number:.3g}"
    digits, exponent = f"{number:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def measured_rates(
    transform: optax.GradientTransformation, shapes: Mapping[str, tuple[int, ...]], plan: Plan
) -> dict[str, tuple[float, float]]:
    """Path -> (learning rate, weight decay), measured from the updates that a transformation makes.

    Compares its first updates of parameters of one, with gradients of one and of zero. If these show no rate, as in a
    warm-up, runs the whole plan with gradients of one, compares the updates of parameters of one and of two, and takes
    those with the highest rate.
    """
    zeros, ones, twos = (
        {path: np.full([1] * len(shape), number, np.float32) for path, shape in shapes.items()} for number in range(3)
    )

    def later(state: Any, _: Any) -> tuple[Any, Any]:
        more, _ = transform.update(ones, state, twos)
        pushed, state = transform.update(ones, state, ones)
        return state, {path: (more[path] - 2 * pushed[path], pushed[path] - more[path]) for path in shapes}

    with jax.disable_jit():  # programs of all leaves would take longer to compile than one operation after another
        first = transform.init(ones)
        (still, _), (pushed, _) = transform.update(zeros, first, ones), transform.update(ones, first, ones)
    found = {path: (still[path] - pushed[path], -still[path]) for path in shapes}
    if not any(rate.item() for rate, _ in found.values()):
        _, every = jax.lax.scan(later, first, None, plan.steps)
        found = {path: (rate[at], decayed[at]) for path, (rate, decayed) in every.items() for at in [rate.argmax()]}
    exact = {path: (float(rate.item()), float(decayed.item())) for path, (rate, decayed) in found.items()}
    return {path: (rate, decayed / rate if rate else 0.0) for path, (rate, decayed) in exact.items()}
