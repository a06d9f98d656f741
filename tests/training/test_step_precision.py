"""`model.precision` reaches every float32 product of every program of a run, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import tiny

from flax_agnews.config import ModelConfig, TrainConfig
from flax_agnews.strategies.plan import Plan
from flax_agnews.training.frozen_layers import Trunk
from flax_agnews.training.state import set_up
from flax_agnews.training.step import (
    AXIS,
    classification_loss,
    language_loss,
    make_eval_step,
    make_gradients,
    make_prefix_step,
)

SPLIT = tiny.random_split(np.asarray([3, 5, 2]))


@pytest.fixture(autouse=True)
def nothing_chosen():
    """JAX's own default, whatever the tests' settings say (tests/conftest.py)."""
    with jax.default_matmul_precision(None):
        yield


def setup_of(name, precision, dtype="float32"):
    base, settings = tiny.random_base(), ModelConfig(precision=precision, dtype=dtype, dropout=0.0)
    plan = Plan(4, 1, 8, base.config.n_layer, TrainConfig())
    return set_up(tiny.build(name), base, tiny.CLASSES, plan, settings, tiny.LONGEST // 2)


def batch_of():
    one = tiny.whole(SPLIT, range(3), tiny.even(1, 4, 0))
    return jax.tree.map(lambda x: jnp.stack([x, x]), one)  # two micro-batches


def steps_of(setup, loss=classification_loss):
    """Name of a program -> function of the model's parameters, as one device computes it."""
    model, batch = setup.model, batch_of()
    paths = sorted(setup.trainable)

    def gradients(parameters):
        learning = {path: parameters[path] for path in paths}
        return make_gradients(model, loss)(learning, parameters, batch, None)

    trunk = Trunk.of(model, 2)
    return {
        "gradients": gradients,
        "prefix": lambda parameters: make_prefix_step(model)((), parameters, ()),
        "evaluate": lambda parameters: make_eval_step(model)(
            make_prefix_step(model)((), parameters, ()), parameters, batch
        ),
        "trunk": lambda parameters: trunk.step(np.dtype("float32"))((), trunk.weights(parameters), batch),
    }


def products(function, model):
    """Lines of a program for NVIDIA GPUs with a product."""
    shapes = {path: jax.ShapeDtypeStruct((1, *shape), jnp.float32) for path, shape in model.shapes.items()}
    mapped = jax.jit(jax.vmap(function, axis_name=AXIS))
    text = mapped.trace(shapes).lower(lowering_platforms=("cuda",)).as_text()
    return [line for line in text.splitlines() if "dot_general" in line]


@pytest.mark.parametrize("precision", ["default", "high", "highest"])
@pytest.mark.parametrize("step", ["gradients", "prefix", "evaluate", "trunk"])
@pytest.mark.parametrize("name", ["prompt", "lora"])
def test_every_product_of_a_program_has_the_precision(name, step, precision):
    setup = setup_of(name, precision)
    found = products(steps_of(setup)[step], setup.model)
    assert found or (name, step) == ("lora", "prefix")
    assert all(f"precision = [{precision.upper()}, {precision.upper()}]" in line for line in found)


def test_language_modelling_has_the_precision_too():
    setup = setup_of("full", "highest")
    found = products(steps_of(setup, language_loss(0))["gradients"], setup.model)
    assert all("[HIGHEST, HIGHEST]" in line for line in found)
    assert any(f"x{tiny.CONFIG.vocab_size}xf32>" in line for line in found)  # the scores of the vocabulary


def test_products_of_bfloat16_are_left_as_they_are():
    """They are exact; another precision would only keep XLA from its fast kernels."""
    setup = setup_of("full", "highest", "bfloat16")
    assert setup.model.compute.precision == "default"
    assert all("[DEFAULT, DEFAULT]" in line for line in products(steps_of(setup)["gradients"], setup.model))


def test_on_a_cpu_every_precision_gives_the_same_bytes():
    found = []
    for precision in ("default", "highest"):
        setup = setup_of("full", precision)
        parameters = {
            path: np.asarray(np.random.default_rng(1).normal(size=shape), np.float32)[None]
            for path, shape in setup.model.shapes.items()
        }
        found.append(jax.jit(jax.vmap(steps_of(setup)["gradients"], axis_name=AXIS))(parameters))
    assert jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), *found))


def test_programs_and_cached_activations_of_other_precisions_are_others():
    models = {name: setup_of("partial", name).model for name in ("default", "high", "highest")}
    assert len({model.function for model in models.values()}) == 3
    assert len({Trunk.of(model, 1).hash for model in models.values()}) == 3
