"""Counts the bytes that a training step's programs move on a GPU, in a process of its own: the compiled programs'.

`python -m benchmarks.support.gpu_programs LIBRARY TEXTS [CASE ...]` prints a line of JSON for each case: its name and
its counts. LIBRARY is a folder with a version of the package; a version before `models.compute` lacks some cases.
"""

import json
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple
from unittest import mock

from benchmarks.support.gpu_target import compiled
from benchmarks.support.hlo_text import operations
from benchmarks.support.model_parts import CONTAINERS, place_of

CLASSES = 4
WIDTH = 768
_NO_KERNEL = (*CONTAINERS, "parameter", "constant", "tuple", "get-tuple-element", "bitcast")

Counts = Counter[tuple[str, bool]]
"""(part of the model, whether it is of the backward pass) -> bytes."""


class Case(NamedTuple):
    """A way to compute the model.

    Attributes:
        name: what the table calls it.
        dropout: rate of all dropouts.
        rows: whether attention is in rows, with a stand-in for cuDNN's kernel.
    """

    name: str
    dropout: float
    rows: bool = False


CASES = (
    Case("blocks, dropout 0.1", 0.1),
    Case("blocks, dropout 0", 0.0),
    Case("rows, dropout 0", 0.0, rows=True),
)


def counted(text: str, update: bool = False) -> Counts:
    """Bytes that a compiled program moves, by part: of every kernel its operands and results, each once."""
    found = Counts()
    for operation in operations(text).values():
        if operation.kind not in _NO_KERNEL:
            found[place_of(operation, update)] += operation.bytes
    return found


def batch_of(texts: int) -> Any:
    """A batch of texts of random lengths like those of AG News in tokens: log-normal, 48 in the middle."""
    import jax
    import numpy as np

    from flax_agnews.data.batches import assemble
    from flax_agnews.data.shapes import measure
    from flax_agnews.data.tokens import Ragged

    lengths = np.clip(np.random.default_rng(0).lognormal(np.log(48), 0.34, texts).astype(int), 10, 256)
    tokens = Ragged.of([1] * length for length in lengths)
    labels, rows = np.zeros(texts, np.int32), np.arange(texts)
    batch = assemble(tokens, labels, rows, measure(lengths, 1, 1), devices=1)
    return jax.tree.map(lambda x: x[0, 0], batch)


def gradient_program(layers: int, case: Case, batch: Any, vocabulary: int = 50257) -> str:
    """The program of a micro-batch's gradients of all weights, in bfloat16, for GPT-2 with so many layers."""
    import jax
    import jax.numpy as jnp

    from flax_agnews.models import parameters
    from flax_agnews.models.classifier import ClassifierModule
    from flax_agnews.models.dropout import Noise, Rates
    from flax_agnews.models.gpt2_config import GPT2Config
    from flax_agnews.training.step import classification_loss

    how, options = _compute(case)
    config = GPT2Config(n_layer=layers, n_embd=WIDTH, vocab_size=vocabulary)
    frame = parameters.abstract(lambda: ClassifierModule(config, CLASSES, jax.random.key(0)))
    rates = Rates(case.dropout, case.dropout, case.dropout, (True,) * (layers + 1))

    def gradients(weights: Any, batch: Any, step: Any) -> Any:
        noise = Noise(jnp.uint32(1), step, rates) if case.dropout else None
        return jax.grad(lambda w: classification_loss(frame.merge(w), batch, noise, how)["loss"])(weights)

    weights = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in frame.shapes.items()}
    with mock.patch("jax.nn.dot_product_attention", _in_place_of_cudnn()):
        return compiled(gradients, weights, batch, jax.ShapeDtypeStruct((), jnp.uint32), options=options)


def _compute(case: Case) -> tuple[Any, dict[str, bool]]:
    """How a GPU computes a case, as an argument of the model, and the compiler's options."""
    import jax.numpy as jnp

    half = jnp.dtype("bfloat16")
    try:
        from flax_agnews.models.compute import Compute
        from flax_agnews.training.parallel import compiler_options
    except ImportError:  # an earlier version, whose models take the type of products
        return half, {}
    compute = Compute(half, half, last_in_rows=True)
    return replace(compute, attention="xla") if case.rows else compute, compiler_options("gpu")


def _in_place_of_cudnn() -> Any:
    """A function that moves the bytes of cuDNN's attention, which can't be compiled without a device.

    Forward it reads q, k and v, and writes a result; backward it reads these four and a gradient, and writes three.
    """
    import jax

    alone = jax.lax.optimization_barrier

    @jax.custom_vjp
    def moved(q: Any, k: Any, v: Any) -> Any:
        q, k, v = alone((q, k, v))
        return alone(q + k + v)

    def forward(q: Any, k: Any, v: Any) -> Any:
        out = moved(q, k, v)
        return out, (q, k, v, out)

    def backward(saved: Any, gradient: Any) -> Any:
        q, k, v, out, g = alone((*saved, gradient))
        total = q + k + v + out + g
        return alone((total, 2 * total, 3 * total))

    moved.defvjp(forward, backward)

    def attention(q: Any, k: Any, v: Any, **others: Any) -> Any:
        with jax.named_scope("attention"):
            return moved(q, k, v)

    return attention


def update_program(layers: int = 2) -> tuple[str, int]:
    """The program of an update with AdamW and clipping, for GPT-2 with so many layers; and its number of weights."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from flax_agnews.config import ModelConfig, TrainConfig
    from flax_agnews.models.gpt2_config import GPT2Config
    from flax_agnews.models.pretrained import Base, body_shapes
    from flax_agnews.strategies import REGISTRY
    from flax_agnews.strategies.optim import Plan
    from flax_agnews.training import step
    from flax_agnews.training.state import TrainState, set_up

    config = GPT2Config(n_layer=layers, n_embd=WIDTH, vocab_size=1024)
    numbers = {path: np.broadcast_to(np.float32(0), shape) for path, shape in body_shapes(config).items()}
    entry = next(entry for entry in REGISTRY if entry.name == "full")
    strategy = entry.build(entry.settings(), config)
    plan = Plan(20, 5, 8, layers, TrainConfig(clip_norm=1.0))
    setup = set_up(strategy, Base("base", config, numbers, given_again=False), CLASSES, plan, ModelConfig(), 128)
    by_branch = {"by_branch": False} if hasattr(step, "skips_by_branch") else {}
    update = step.make_update_step(setup, **by_branch)
    params = {path: jax.ShapeDtypeStruct(setup.model.frame.shapes[path], jnp.float32) for path in setup.learning}
    number = jax.ShapeDtypeStruct((), jnp.float32)
    state = TrainState(params, jax.eval_shape(setup.optimizer.init, params), jnp.int32(0), jnp.uint32(0))
    sums = dict.fromkeys(("loss", "weight", "correct", "texts"), number)
    _, options = _compute(CASES[0])
    text = compiled(lambda state, sums, grads: update(state, (), (sums, grads)), state, sums, params, options=options)
    return text, sum(int(np.prod(x.shape)) for x in params.values())


def measured(texts: int, names: Collection[str]) -> Iterator[Mapping[str, Any]]:
    """Counts of the cases of these names, without any of all that this version has; `update` is the optimizer's."""
    batch = batch_of(texts)
    unit, has_rows = batch.text.size * WIDTH, bool(_compute(CASES[0])[1])
    for case in CASES:
        if case.name in (names or [case.name]) and (has_rows or not case.rows):
            two, three = (counted(gradient_program(layers, case, batch)) for layers in (2, 3))
            layer = {place: three[place] - two[place] for place in sorted({*two, *three})}
            parts = [{"part": part, "backward": back, "units": size / unit} for (part, back), size in layer.items()]
            rest = two.total() - sum(layer.values())  # embedding, head and last layer
            yield {"name": case.name, "tokens": batch.text.size, "parts": parts, "rest": rest / unit}
    if "update" in (names or ["update"]):
        text, weights = update_program()
        yield {"name": "update", "units": counted(text, update=True).total() / 4 / weights}


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    for line in measured(int(sys.argv[2]), sys.argv[3:]):
        print(json.dumps(line), flush=True)
