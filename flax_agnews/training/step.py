"""The losses, the training step and the evaluation step, as one device computes them: pure functions over pytrees.

Losses are summed over all devices and micro-batches and divided once by the sum of weights: never a mean of means.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Bool, Float, Int, Shaped

from flax_agnews.data.batches import PADDING, Batch
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.compute import Compute
from flax_agnews.models.dropout import Noise
from flax_agnews.models.forward_pass import KeysValues
from flax_agnews.models.parameters import Parameters
from flax_agnews.models.precision import rounding
from flax_agnews.strategies.clip import KnownNorm
from flax_agnews.training.adapted_model import AdaptedModel
from flax_agnews.training.sharding import joined
from flax_agnews.training.state import Setup, TrainState

AXIS = "devices"
"""Name of the mapped axis of devices, over which a batch is split."""

SEEDS = "seeds"
"""Name of the mapped axis of runs that train together."""

Sums = dict[str, Float[Array, ""]]
"""Sums over a device's part of a batch: `loss` and `weight`, and in classification `correct` and `texts`."""

Metrics = dict[str, Shaped[Array, ""]]
"""Sums over a whole batch, with `grad_norm` and `skipped`."""

Prefix = list[KeysValues] | None
"""Keys and values that every text attends to before its own tokens, by layer."""

Loss = Callable[[ClassifierModule, Batch, Noise | None, Compute], Sums]
"""(classifier, one micro-batch, source of dropout, types of matrix products) -> sums."""


def classification_loss(model: ClassifierModule, batch: Batch, noise: Noise | None, compute: Compute) -> Sums:
    """Cross-entropy of the texts' labels, in nats, summed over texts by their weights; correct answers, unweighted."""
    logits = model(batch, noise, compute)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
    correct, real = logits.argmax(-1) == batch.label, batch.weight > 0
    return {
        "loss": (losses * batch.weight).sum(),
        "weight": batch.weight.sum(),
        "correct": (correct & real).sum(dtype=jnp.float32),
        "texts": real.sum(dtype=jnp.float32),
    }


@dataclass(frozen=True)
class SmoothedLoss:
    """A loss with label smoothing: a share of each text's target is spread evenly over all classes.

    Szegedy et al. 2016, section 7 (https://arxiv.org/abs/1512.00567). As in `torch.nn.CrossEntropyLoss`, a class's part
    of the spread share is weighted by that class, and the rest by the text's own class.

    Attributes:
        share: share that is spread, 0 to 1.
        class_weights: weights of classes in the spread share; equal by default. `Batch.weight` has those of texts.
    """

    share: float
    class_weights: tuple[float, ...] | None = None

    def __call__(self, model: ClassifierModule, batch: Batch, noise: Noise | None, compute: Compute) -> Sums:
        """The sums of `Loss` over one micro-batch."""
        logits = model(batch, noise, compute)
        logs = jax.nn.log_softmax(logits)
        own = -jnp.take_along_axis(logs, batch.label[:, None], axis=-1)[:, 0]
        weights = jnp.ones(logits.shape[-1]) if self.class_weights is None else jnp.asarray(self.class_weights)
        spread = -(logs * weights).mean(-1)
        correct, real = logits.argmax(-1) == batch.label, batch.weight > 0
        return {
            "loss": ((1 - self.share) * own * batch.weight + self.share * spread * real).sum(),
            "weight": batch.weight.sum(),
            "correct": (correct & real).sum(dtype=jnp.float32),
            "texts": real.sum(dtype=jnp.float32),
        }


def language_loss(end_of_text: int, chunk: int = 1024) -> Loss:
    """A loss of causal language modelling: each token predicts the next one of its text, the last token end-of-text.

    Args:
        end_of_text: id of the end-of-text token.
        chunk: number of tokens whose logits over the vocabulary are in memory at once.
    """

    def loss(model: ClassifierModule, batch: Batch, noise: Noise | None, compute: Compute) -> Sums:
        hidden = model.hidden(batch, noise, compute)
        table, dtype = model.transformer.wte.embedding[...], compute.dtype
        same = jnp.append(batch.text[1:] == batch.text[:-1], False)
        target = jnp.where(same, jnp.append(batch.ids[1:], 0), end_of_text)
        real = (batch.text != PADDING).astype(jnp.float32)

        @jax.checkpoint
        def sums(
            hidden: Float[Array, "tokens width"], target: Int[Array, "tokens"], real: Float[Array, "tokens"]
        ) -> Float[Array, ""]:
            scores = jnp.matmul(hidden.astype(dtype), table.T.astype(dtype), preferred_element_type=jnp.float32)
            losses = optax.softmax_cross_entropy_with_integer_labels(scores, target)
            return (losses * real).sum()

        parts = [slice(i, i + chunk) for i in range(0, len(target), chunk)]
        total = jnp.stack([sums(hidden[p], target[p], real[p]) for p in parts]).sum()
        return {"loss": total, "weight": real.sum()}

    return loss


def make_gradients(model: AdaptedModel, loss: Loss) -> Callable[..., tuple[Sums, Parameters]]:
    """Makes a function (params, frozen, batch, noise) -> (sums, gradients of the summed loss), both over all devices.

    The function runs under a mapped axis called `AXIS`; its batch has a leading axis [micro]. Parameters of which a
    device holds a part (see `sharding`) have the gradients of this part.
    """
    shapes = model.shapes

    def one(params: Parameters, frozen: Parameters, batch: Batch, noise: Noise | None) -> tuple[Float[Array, ""], Sums]:
        ready = joined({**frozen, **params}, shapes, AXIS, model.base.config.n_layer)
        sums = loss(model.frame.merge(ready), batch, noise, model.compute)
        return sums["loss"], sums

    def gradient(*arguments: Any) -> tuple[Parameters, Sums]:
        with rounding(model.compute.precision):  # forward and backward
            found: tuple[Parameters, Sums] = jax.grad(one, has_aux=True)(*arguments)
        return found

    def gradients(params: Parameters, frozen: Parameters, batch: Batch, noise: Noise | None) -> tuple[Sums, Parameters]:
        first = jax.tree.map(lambda x: x[0], batch)
        grads, sums = gradient(params, frozen, first, noise)
        if len(batch.ids) > 1:

            def add(carry: Any, micro: Batch) -> tuple[Any, None]:
                return jax.tree.map(jnp.add, carry, gradient(params, frozen, micro, noise)), None

            (grads, sums), _ = jax.lax.scan(add, (grads, sums), jax.tree.map(lambda x: x[1:], batch))
        if jax.lax.axis_size(AXIS) == 1:  # a psum over one device would copy all gradients
            return sums, grads
        own = {path: part for path, part in grads.items() if part.shape != shapes[path]}  # these are summed already
        sums, others = jax.lax.psum((sums, {p: g for p, g in grads.items() if p not in own}), AXIS)
        return sums, {**others, **own}

    return gradients


def inputs_of_gradients(state: TrainState) -> tuple[Parameters, Array, Array]:
    """The parts of a state on which gradients depend: (params, step, seed), without the optimizer's state."""
    return state.params, state.step, state.seed


def make_gradient_step(setup: Setup, loss: Loss) -> Callable[..., tuple[Sums, Parameters]]:
    """Makes a function ((params, step, seed), frozen, batch) -> (sums, gradients of the summed loss).

    Both results are over all devices. The function runs under a mapped axis called `AXIS`.

    Args:
        setup: the adapted model and how it trains; only leaves in its `learning` have gradients.
        loss: the loss to minimise.
    """
    gradients = make_gradients(setup.model, loss)

    def gradient_step(
        inputs: tuple[Parameters, Array, Array], frozen: Parameters, batch: Batch
    ) -> tuple[Sums, Parameters]:
        params, step, seed = inputs
        learning = {path: value for path, value in params.items() if path in setup.learning}
        return gradients(learning, {**frozen, **params}, batch, Noise(seed, step, setup.rates))

    return gradient_step


def skips_by_branch(platform: str) -> bool:
    """Whether an update that isn't finite is skipped by a branch; otherwise what it changed is not selected.

    A branch is quicker on a CPU, where a selection needs two copies of the optimizer's state. On other devices a branch
    may wait for the host, and a selection costs nothing: it is part of the kernels that write the new values.

    Args:
        platform: kind of device: cpu, gpu or tpu.
    """
    return platform == "cpu"


def make_update_step(
    setup: Setup, together: bool = False, by_branch: bool = True
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Makes a function (state, (), (sums, gradients)) -> (state, metrics), given the gradient step's results.

    Metrics are the loss's sums over the batch; `grad_norm`, the global norm of the gradients; and `skipped`, whether
    loss or gradients were not finite. A skipped update only increases the step.

    Args:
        setup: the adapted model and how it trains; leaves of the state that aren't in its `learning` don't change.
        together: whether the function runs under a mapped axis called `SEEDS` as well.
        by_branch: see `skips_by_branch`; the results are the same.
    """
    optimizer = optax.with_extra_args_support(setup.optimizer)

    def update_if(
        good: Bool[Array, ""],
        summed: Parameters,
        weight: Float[Array, ""],
        norm: Float[Array, ""],
        old: tuple[Parameters, Any],
    ) -> tuple[Parameters, Any]:
        """Updates parameters and optimizer state if `good`."""

        def update(old: tuple[Parameters, Any]) -> tuple[Parameters, Any]:
            grads = jax.tree.map(lambda g: g / weight, summed)  # here, where a GPU's kernels have it inside
            learning = {path: old[0][path] for path in grads}
            updates, opt_state = optimizer.update(grads, old[1], learning, known_norm=KnownNorm(grads, norm))
            return {**old[0], **optax.apply_updates(learning, updates)}, opt_state

        def choose(old: tuple[Parameters, Any]) -> tuple[Parameters, Any]:
            return jax.tree.map(lambda after, before: jnp.where(good, after, before), update(old), old)

        if not by_branch:
            return choose(old)
        if not together:
            return jax.lax.cond(good, update, lambda old: old, old)
        return jax.lax.cond(jax.lax.pmin(good.astype(jnp.int32), SEEDS) == 1, update, choose, old)

    def update_step(
        state: TrainState, no_weights: tuple[()], results: tuple[Sums, Parameters]
    ) -> tuple[TrainState, Metrics]:
        sums, summed = results
        with jax.named_scope("norm_of_gradients"):
            norm = optax.tree.norm(jax.tree.map(lambda g: g / sums["weight"], summed))
            good = jnp.isfinite(sums["loss"]) & jnp.isfinite(norm)
        with jax.named_scope("update"):
            params, opt_state = update_if(good, summed, sums["weight"], norm, (state.params, state.opt_state))
        metrics = {**sums, "grad_norm": norm, "skipped": ~good}
        return TrainState(params, opt_state, state.step + 1, state.seed), metrics

    return update_step


def vmapped(step: Callable[..., Any], own: Collection[str]) -> Callable[..., Any]:
    """Makes a step of several runs at once: its arguments and results get a leading axis [seeds].

    Args:
        step: gradient or update step of one run, made with `together`.
        own: paths of the frozen weights that depend on the seed and have that axis too; the others are shared.
    """

    def together(state: Any, frozen: Any, batch: Any) -> Any:
        axes = {path: 0 if path in own else None for path in frozen}
        return jax.vmap(step, in_axes=(0, axes or None, 0), axis_name=SEEDS)(state, frozen, batch)

    return together


def make_prefix_step(model: AdaptedModel) -> Callable[..., Prefix]:
    """Makes a function ((), parameters, ()) -> keys and values of the prompt or prefix, in evaluation."""

    def prefix_step(no_state: tuple[()], parameters: Parameters, no_batch: tuple[()]) -> Prefix:
        with rounding(model.compute.precision):
            return model.frame.merge(parameters).prefix(None, model.compute)

    return prefix_step


def make_eval_step(model: AdaptedModel) -> Callable[..., Float[Array, "devices micro slots classes"]]:
    """Makes a function (prefix, parameters, batch) -> logits, which runs under a mapped axis called `AXIS`."""

    def eval_step(prefix: Prefix, parameters: Parameters, batch: Batch) -> Float[Array, "devices micro slots classes"]:
        classifier = model.frame.merge(parameters)
        with rounding(model.compute.precision):
            logits = jax.lax.map(lambda micro: classifier(micro, None, model.compute, prefix), batch)
        return jax.lax.all_gather(logits, AXIS)

    return eval_step
