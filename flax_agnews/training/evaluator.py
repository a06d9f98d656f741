"""Compiled evaluation of an adapted model: its prompt's keys and values once, then the logits of batches."""

import copy
from collections.abc import Hashable, Mapping
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flax_agnews.data.batches import Batch
from flax_agnews.models.parameters import Parameters, hollow
from flax_agnews.training.adapted_model import AdaptedModel, in_compute_type
from flax_agnews.training.compiler import Compiled, Compiler
from flax_agnews.training.parallel import Devices
from flax_agnews.training.step import make_eval_step, make_prefix_step

Weights = tuple[Any, Parameters]
"""The keys and values of a model's prompt (None without one), as a compiled step gives them; and the model's parameters
on the devices, kernels in the compute type."""


class Evaluator:
    """Computes logits of batches on the compiler's devices, with any parameters of an adapted model.

    Strategies that compute the same function of the same parameters, and only train differently, share its programs.

    Args:
        model: the adapted model.
        compiler: compiles the steps.
    """

    def __init__(self, model: AdaptedModel, compiler: Compiler) -> None:
        self.model, self._compiler, self._devices = model, compiler, compiler.devices
        self._steps: dict[Hashable, Compiled] = {}
        self._prefix_step: Compiled | None = None
        self._prefix: Any = None  # shape of the prompt's keys and values
        if hollow(model.frame).prompt_tokens:
            step = make_prefix_step(model)
            self._prefix = self._devices.like_state(jax.eval_shape(step, (), self._parameters, ()))
            example = self._devices.like_batch(self._nothing)
            self._prefix_step = compiler(step, (), self._parameters, example, same=("prefix", model.function))

    @cached_property
    def _parameters(self) -> Parameters:
        """Shapes of the model's parameters on the devices."""
        shapes = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in self.model.shapes.items()}
        return self._devices.like_shared(jax.eval_shape(partial(in_compute_type, self.model), shapes))

    @property
    def _nothing(self) -> np.ndarray:
        """A batch for the step that reads none: pmap counts the devices by an argument."""
        return np.zeros(len(self._devices), np.int32)

    def on(self, devices: Devices) -> "Evaluator":
        """The same on another single device of the same kind."""
        other = copy.copy(self)
        other._devices = devices
        other._prefix_step = self._prefix_step and self._prefix_step.on(devices)
        other._steps = {name: step.on(devices) for name, step in self._steps.items()}
        return other

    def compile(self, name: Hashable, batch: Batch) -> None:
        """Begins to compile the step for batches of a shape.

        Args:
            name: the shape's name, for `logits`; a known name is skipped.
            batch: an example, or its shapes, with a leading axis [devices].
        """
        if name not in self._steps:
            examples = self._prefix, self._parameters, self._devices.like_batch(batch)
            same = ("evaluate", self.model.function)
            self._steps[name] = self._compiler(make_eval_step(self.model), *examples, same=same)

    @property
    def names(self) -> frozenset[Hashable]:
        """Names of the shapes that were compiled."""
        return frozenset(self._steps)

    def wait(self) -> None:
        """Waits until everything is compiled."""
        for step in [*filter(None, [self._prefix_step]), *self._steps.values()]:
            step.wait()

    def weights(self, parameters: Mapping[str, Any]) -> Weights:
        """Places the parameters on the devices, and computes the prompt's keys and values.

        Args:
            parameters: path -> array of every parameter of the model.
        """
        placed = self._devices.shared(in_compute_type(self.model, dict(parameters)))
        if self._prefix_step is None:
            return None, placed
        return self._prefix_step((), placed, self._devices.batch(self._nothing)), placed

    def logits(self, weights: Weights, name: Hashable, batch: Batch) -> Float[Array, "devices micro slots classes"]:
        """The logits of a batch (with a leading axis [devices]) of a compiled shape."""
        return self._devices.first(self._steps[name](*weights, self._devices.batch(batch)))
