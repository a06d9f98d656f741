"""Language-model adaptation of the body on the training texts, before the comparison.

Within-task pre-training: Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?", section 5.3
(https://arxiv.org/abs/1905.05583). Only training texts are read, never validation or test texts.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flax_agnews.config import ModelConfig, PretrainConfig, TrainConfig
from flax_agnews.data.encoded import Split
from flax_agnews.errors import Diverged, UserError
from flax_agnews.files import read_json, write_json
from flax_agnews.models.pretrained import BODY, Base, load_base
from flax_agnews.optim import FROZEN, Plan
from flax_agnews.strategies.base import Strategy
from flax_agnews.training.history import lost
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Program, plan_batches
from flax_agnews.training.state import set_up
from flax_agnews.training.step import language_loss


@dataclass(frozen=True)
class Adaptation:
    """What language-model adaptation did.

    Attributes:
        key: SHA-256 of texts, weights and settings: the same key, the same result.
        hash: of the adapted weights.
        loss: mean of each epoch, nats a token.
        seconds: it took when it was computed, compilation included.
    """

    key: str
    hash: str
    loss: list[float]
    seconds: float


Progress = Callable[[float, float], None]
"""(epochs done, tokens per second) -> shown somewhere."""


def adaptation_key(
    base: Base, train: Split, end_of_text: int, config: PretrainConfig, model: ModelConfig, seed: int
) -> str:
    """SHA-256 of all that decides the adapted weights: the exact texts, the weights, the settings."""
    settings = [asdict(config), model.dtype, model.dropout, end_of_text, seed, base.hash]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(train.tokens.ids.tobytes())
    digest.update(train.tokens.offsets.tobytes())
    return digest.hexdigest()


def kept(base: Base, key: str, folders: Sequence[Path]) -> tuple[Base, Adaptation] | None:
    """The adapted body of a key from the first folder that holds it undamaged."""
    for folder in folders:
        try:
            adaptation = Adaptation(**json.loads((folder / "adaptation.json").read_text("utf-8")))
            if adaptation.key != key:
                continue
            loaded = load_base(ModelConfig(name=str(folder.absolute())))
        except (OSError, ValueError, TypeError, UserError):
            continue
        if loaded.hash == adaptation.hash:
            return _adapted(base, loaded.parameters), adaptation
    return None


def keep(base: Base, adaptation: Adaptation, folder: Path) -> None:
    """Writes an adapted body where `kept` finds it; the JSON last, so that half a copy is never taken."""
    note = folder / "adaptation.json"
    if not note.is_file() or read_json(note) != asdict(adaptation):
        note.unlink(missing_ok=True)
        base.save(folder)
        write_json(note, asdict(adaptation))


def adapt(
    base: Base,
    train: Split,
    end_of_text: int,
    config: PretrainConfig,
    model: ModelConfig,
    devices: Devices,
    seed: int,
    progress: Progress = lambda done, speed: None,
) -> tuple[Base, Adaptation]:
    """Trains the whole body as a language model on the texts: AdamW, warm-up over 5 % of the updates, cosine to zero.

    Args:
        base: the body to start from; left as it is.
        train: the training texts (labels aren't read).
        end_of_text: id that ends every text.
        config, model: settings.
        devices: that share every batch.
        seed: of batches and dropout.
        progress: told after every update.
    """
    started = time.perf_counter()
    settings = TrainConfig(
        epochs=config.epochs,
        batch_size=config.batch_size,
        schedule="cosine",
        warmup_fraction=0.05,
        clip_norm=1.0,
        shapes=2,  # it is short: more shapes would compile longer than their padding costs
    )
    batches = plan_batches(train, settings, [seed], devices)
    steps = batches.steps_per_epoch * config.epochs
    plan = Plan(steps, batches.steps_per_epoch, config.batch_size, base.config.n_layer, settings)
    strategy = Strategy(
        name="language modelling",
        label=lambda path, shape: "body" if path.startswith(BODY) else FROZEN,
        transforms=lambda plan: {"body": plan.adamw(config.learning_rate)},
    )
    longest = int(train.tokens.lengths.max())
    setup = set_up(strategy, base, 2, plan, model, longest)
    shared = devices.shared(dict(base.parameters))
    program = Program(setup, devices, shared, batches, {}, language_loss(end_of_text))
    state, frozen = program.start(seed)
    losses = []
    for epoch in range(config.epochs):
        sums, began = [], time.perf_counter()
        for step in range(batches.steps_per_epoch):
            state, metrics = program.train_step(state, frozen, seed, epoch, step)
            sums.append(metrics)
            if step:  # read the update before, while this one runs
                sums[-2] = _read(sums[-2], epoch * batches.steps_per_epoch + step)
                tokens = sum(m["weight"] for m in sums[:-1])
                progress(epoch + step / batches.steps_per_epoch, tokens / (time.perf_counter() - began))
        sums[-1] = _read(sums[-1], (epoch + 1) * batches.steps_per_epoch)
        losses.append(sum(m["loss"] for m in sums) / sum(m["weight"] for m in sums))
    body = {path: np.asarray(value) for path, value in program.devices.first(state.params).items()}
    adapted = _adapted(base, body)
    key = adaptation_key(base, train, end_of_text, config, model, seed)
    return adapted, Adaptation(key, adapted.hash, losses, time.perf_counter() - started)


def _read(metrics: Mapping[str, Any], step: int) -> dict[str, float]:
    """An update's metrics as numbers; `step` counts from 1.

    Raises `Diverged` where they are not finite, whatever `train.on_nonfinite` says: every run starts from what is left.
    """
    numbers = {name: float(value) for name, value in metrics.items()}
    if numbers["skipped"]:
        raise Diverged([f"pretrain at step {step} ({lost(numbers)})"], "Lower --pretrain.learning_rate")
    return numbers


def _adapted(base: Base, body: Mapping[str, np.ndarray]) -> Base:
    return Base(f"{base.name}, adapted", base.config, body, given_again=False)
