"""A tiny GPT-2 whose every weight shows in its logits, ragged random texts, and strategies set up on them."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

from flax_agnews.config import ModelConfig, TrainConfig
from flax_agnews.data.batches import TrainBatches, assemble
from flax_agnews.data.encoded import Split
from flax_agnews.data.shapes import LEVELS, Shape
from flax_agnews.data.tokens import Ragged
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.pretrained import Base, body_shapes
from flax_agnews.strategies import ALL, REGISTRY, Strategy
from flax_agnews.strategies.optim import Plan
from flax_agnews.training.batch_plans import plan_batches
from flax_agnews.training.compiler import Compiler
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Inputs, Program
from flax_agnews.training.state import Setup, set_up

CLASSES = 4
LONGEST = 150  # three blocks of attention and a bit
CONFIG = GPT2Config(vocab_size=101, n_positions=256, n_embd=32, n_layer=3, n_head=4)
"""Three layers: `partial` then has frozen layers, a base group and a top group."""

STRATEGIES = tuple(entry.name for entry in REGISTRY)

LORA_DROPOUT = 0.2
_UPDATE = {"rank": 2, "alpha": 2, "dropout": LORA_DROPOUT}  # of scale 1
SMALL: Mapping[str, dict[str, Any]] = {
    "prompt": {"tokens": 5},
    "prefix": {"tokens": 5},
    "lora": {**_UPDATE, "targets": "c_attn,c_fc,c_proj"},
    "lora_prompt": {**_UPDATE, "tokens": 5},
    "adapter": {"reduction": 8},
}
"""Settings of registered strategies, unless said otherwise."""


def random_base(config: GPT2Config = CONFIG, seed: int = 0) -> Base:
    """A body whose biases and norms differ from their first values, and whose attention is far from uniform."""
    rng = np.random.default_rng(seed)
    numbers = {}
    for path, shape in body_shapes(config).items():
        scale = 0.25 if path.endswith("kernel") else 0.1
        centre = 1.0 if path.endswith("scale") else 0.0
        numbers[path] = (centre + scale * rng.standard_normal(shape)).astype(np.float32)
    return Base("tiny", config, numbers, given_again=False)


def random_split(lengths: Sequence[int], seed: int = 0, classes: int = CLASSES) -> Split:
    """Texts of these lengths, of random ids and labels."""
    rng = np.random.default_rng(seed)
    tokens = Ragged.of(rng.integers(0, CONFIG.vocab_size, length) for length in lengths)
    return Split(tokens, rng.integers(0, classes, len(lengths)).astype(np.int32))


def random_lengths(texts: int, longest: int = LONGEST, seed: int = 0) -> np.ndarray:
    """Mostly short, as real texts are; the shortest is 1 and the longest is `longest`."""
    lengths = np.random.default_rng(seed).gamma(1.5, longest / 6, texts).astype(int)
    lengths[: min(2, texts)] = [1, longest][:texts]
    return np.clip(lengths, 1, longest)


def build(name: str, config: GPT2Config = CONFIG, **settings: Any) -> Strategy:
    """A registered strategy, small unless said otherwise."""
    entry = REGISTRY[name]
    ours = {**SMALL, "gradual": {"layers": config.n_layer}}
    return entry.build(entry.settings(**{**ours.get(name, {}), **settings}), config)


def prepare(
    strategy: Strategy | str,
    base: Base | None = None,
    *,
    classes: int = CLASSES,
    dropout: float = 0.1,
    dropout_frozen: bool = False,
    dtype: Any = "float32",
    steps: int = 20,
    **train: Any,
) -> Setup:
    """A strategy (or the registered one of a name) set up on the tiny body, for a run of four epochs."""
    base = base or random_base()
    strategy = build(strategy, base.config) if isinstance(strategy, str) else strategy
    plan = Plan(steps, -(-steps // 4), 8, base.config.n_layer, TrainConfig(**train))
    model = ModelConfig(dropout=dropout, dropout_frozen=dropout_frozen, dtype=dtype)
    longest = min(LONGEST, base.config.n_positions // 2)
    return set_up(strategy, base, classes, plan, model, longest)


@cache
def one_of_each(*traits: str) -> tuple[str, ...]:
    """Registered strategies, without those that have these traits in common with an earlier one.

    Args:
        traits: of `model` (what is computed) and `trainable` (what has gradients); strategies may differ in rates only.
    """
    found: dict[str, list[Any]] = {}
    for name in STRATEGIES:
        setup = prepare(name)
        known = {"model": setup.model.frame.graph, "trainable": setup.trainable}
        own = [known[trait] for trait in traits]
        if own not in found.values():
            found[name] = own
    return tuple(found)


def original_first(names: Sequence[str] = STRATEGIES) -> list[Any]:
    """Values of a parameter `name`: the original three, and the others in the long tests."""
    return [pytest.param(name, marks=[] if name in ALL else pytest.mark.long) for name in names]


def devices(count: int = 1, mode: Any = "jit") -> Devices:
    """The first simulated devices."""
    return Devices(mode, tuple(jax.local_devices()[:count]))


def training(
    setup: Setup,
    split: Split,
    where: Devices,
    *,
    batch_size: int = 8,
    micro_batch_tokens: int = 16384,
    shapes: int = 1,
    seeds: Sequence[int] = (0,),
    epochs: int = 1,
    together: int = 1,
    evaluated: Any = None,
) -> Program:
    """The library's own program on a split, for groups of `together` seeds; what was compiled before is used again."""
    settings = TrainConfig(
        batch_size=batch_size,
        micro_batch_tokens=micro_batch_tokens,
        shapes=shapes,
        epochs=epochs,
        parallel_seeds=together,
    )
    batches = plan_batches(split, settings, seeds, where)
    shared = where.shared(dict(setup.model.base.parameters))
    inputs = Inputs(batches, evaluated or {})
    return Program(setup, where, shared, inputs, group_sizes=[together], compiler=compiler(where))


@cache
def compiler(where: Devices) -> Compiler:
    """A compiler that knows what it has compiled for these devices in other tests."""
    return Compiler(where)


def even(blocks: int, slots: int, lookback: int, micro_batches: int = 1) -> Shape:
    """A shape all of whose blocks look back `lookback` blocks, or the next level above."""
    below = (0, *LEVELS[:-1])
    return Shape(slots, micro_batches, tuple(blocks if lookback > level or not level else 0 for level in below))


def whole(split: Split, rows: Sequence[int], shape: Shape) -> Any:
    """One device's micro-batch (no leading axes) of these rows."""
    batch = assemble(split.tokens, split.labels, np.asarray(rows, int), shape, devices=1)
    return jax.tree.map(lambda x: x[0, 0], batch)


def by_number(values: Any, batch: Any) -> np.ndarray:
    """Values of a micro-batch's slots -> those of its texts, in the order in which the rows were given."""
    used = np.asarray(batch.weight) > 0
    return np.asarray(values)[used][np.argsort(np.asarray(batch.number)[used])]


def planned(split: Split, **settings: Any) -> TrainBatches:
    """Training batches of a split, for seeds and epochs as told."""
    defaults: dict[str, Any] = {"batch_size": 8, "seeds": (0,), "epochs": 1}
    return TrainBatches(split.tokens, split.labels, **{**defaults, **settings})
