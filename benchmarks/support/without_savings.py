"""Turns single savings off, for the same training at its cost without them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from flax_agnews.data.batches import Batch, TrainBatches
from flax_agnews.data.shapes import Shape
from flax_agnews.data.tokens import Ragged
from flax_agnews.models import layers
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.compute import Compute
from flax_agnews.models.dropout import Noise
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.prompts import INITIALIZERS
from flax_agnews.strategies.base import FROZEN, Strategy
from flax_agnews.strategies.prompt import PromptSettings
from flax_agnews.training.parallel import Devices
from flax_agnews.training.step import Loss, Sums, classification_loss

PROMPT = PromptSettings()


def same(value: Any) -> Any:
    """Returns its argument."""
    return value


@dataclass(frozen=True)
class Change:
    """The changes to a run that turn a saving off; the defaults change nothing.

    Attributes:
        flags: command-line flags added after the benchmark's own.
        strategy: replaces the registered strategy.
        prepare: called before anything is compiled.
        texts: (texts, body) -> texts to train on instead.
        batches: batches -> other batches of the same texts.
        loss: the training loss.
        devices: class that compiles the steps.
    """

    flags: tuple[str, ...] = ()
    strategy: Strategy | None = None
    prepare: Callable[[], None] = lambda: None
    texts: Callable[[Ragged, GPT2Config], Ragged] = lambda texts, body: texts
    batches: Callable[[TrainBatches], TrainBatches] = same
    loss: Loss = classification_loss
    devices: type[Devices] = Devices


def padded(width: int) -> Change:
    """Pads all texts: longer ones are cut at `width`, shorter ones filled with zeros; the last token is pooled."""

    def texts(real: Ragged, body: GPT2Config) -> Ragged:
        ids = np.zeros((len(real), width), np.int32)
        ids[np.arange(width) < real.lengths[:, None]] = real.ids
        return Ragged(ids.ravel(), np.arange(len(real) + 1) * width)

    # Computed at once, 32 texts of 256 tokens would take 27 GiB at full size; micro-batches take less.
    flags = ("--data.max_length", str(width), "--train.micro_batch_tokens", "2048")
    return Change(flags=flags, texts=texts)


def uniform(batches: TrainBatches) -> TrainBatches:
    """The same batches with shapes in which every block of attention looks back as far as the longest text."""
    changed = copy.copy(batches)
    every = [s._replace(reach=tuple(s.reach[0] if blocks else 0 for blocks in s.reach)) for s in batches.shapes]
    changed.shapes = list(dict.fromkeys(cast(list[Shape], every)))
    return changed


class Vectors(nnx.Module):
    """An embedding table with additional trained rows, whose ids follow the table's.

    Args:
        table: [entries, embd].
        more: [rows, embd].
    """

    def __init__(self, table: Array, more: Array) -> None:
        self.embedding, self.more = nnx.Param(table), nnx.Param(more)

    def __call__(self, ids: Array) -> Array:
        """Embeds ids [tokens] as [tokens, embd]."""
        table, more = self.embedding[...], self.more[...]
        known = jnp.minimum(ids, len(table) - 1)
        added = jnp.maximum(ids - len(table), 0)
        return jnp.where((ids < len(table))[:, None], table[known], more[added])


def _with_vectors(model: ClassifierModule, key: Array) -> ClassifierModule:
    adapted = nnx.clone(model)
    first = INITIALIZERS[PROMPT.initializer](model, key, PROMPT.tokens)
    adapted.transformer.wte = cast(Any, Vectors(model.transformer.wte.embedding[...], first))
    return adapted


def _prompted(texts: Ragged, body: GPT2Config) -> Ragged:
    """Texts with the prompt's ids before each."""
    prompt = np.arange(body.vocab_size, body.vocab_size + PROMPT.tokens, dtype=np.int32)
    return Ragged.of([*prompt, *texts[i]] for i in range(len(texts)))


PROMPT_PER_TEXT = Strategy(
    name="prompt",
    adapt=_with_vectors,
    label=lambda path, shape: "prompt" if path in ("transformer/wte/more", "score/kernel") else FROZEN,
    transforms=lambda plan: {"prompt": plan.adamw(PROMPT.learning_rate)},
)
"""Prompt tuning with the prompt's vectors as tokens of every text: the same function, with longer texts."""


def all_tokens_loss(model: ClassifierModule, batch: Batch, noise: Noise | None, compute: Compute) -> Sums:
    """The training loss with the last layer computed for all tokens."""

    def logits(batch: Batch, noise: Noise | None, compute: Compute) -> Array:
        return model.score(model.hidden(batch, noise, compute)[batch.last])

    return classification_loss(cast(ClassifierModule, logits), batch, noise, compute)


def plain_product(x: Array, kernel: Array, compute: Compute) -> Array:
    """The matrix product `layers.product` with its backward pass left to autodiff."""
    dtype = compute.dtype
    return jnp.matmul(x.astype(dtype), kernel.astype(dtype), preferred_element_type=compute.results)


def _plain_products() -> None:
    cast(Any, layers).product = plain_product


@dataclass(frozen=True)
class Undonated(Devices):
    """Devices whose compiled steps don't donate their arguments."""

    def lower(
        self, function: Callable[..., Any], *examples: Any, donate: bool, chained: bool = False, like: Any = None
    ) -> Any:
        """Traces as `Devices.lower` does, without donation."""
        return super().lower(function, *examples, donate=False, chained=chained, like=like)


CHANGES = {
    "packing": padded(128),
    "packing_256": padded(256),
    "lookback": Change(batches=uniform),
    "prompt_once": Change(strategy=PROMPT_PER_TEXT, texts=_prompted),
    "pooled": Change(loss=all_tokens_loss),
    "cache": Change(flags=("--train.cache_frozen", "off")),
    "products": Change(prepare=_plain_products),
    "allocator": Change(flags=("--parallel.keep_memory", "false")),
    "shapes": Change(flags=("--train.shapes", "1")),
    "compilation_cache": Change(flags=("--parallel.keep_compilations", "false")),
    "donation": Change(devices=Undonated),
}
"""Name of a saving -> the change that turns it off."""


def resized(texts: Ragged, mean: float, most: int) -> Ragged:
    """The same sequence of tokens, cut again into as many texts, `mean` tokens long on average, at most `most`."""
    lengths = np.clip(np.round(texts.lengths * (mean / texts.lengths.mean())), 1, most).astype(np.int64)
    return Ragged(np.resize(texts.ids, lengths.sum()), np.concatenate([[0], np.cumsum(lengths)]))
