"""Language-model adaptation of the body on the training texts, before the comparison.

Within-task pre-training: Sun et al. 2019, "How to Fine-Tune BERT for Text Classification?", section 5.3
(https://arxiv.org/abs/1905.05583). Only training texts are read, never validation or test texts.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import numpy as np

from flax_agnews.config import ModelConfig, PretrainConfig, TrainConfig
from flax_agnews.data.encoded import Split
from flax_agnews.errors import Diverged, flag
from flax_agnews.models.pretrained import BODY, Base
from flax_agnews.strategies.base import Strategy
from flax_agnews.strategies.optim import FROZEN, Plan
from flax_agnews.training.adaptation import Adaptation, adaptation_key, arrangement, renewed, settings
from flax_agnews.training.checkpoint import Store, newest, snapshot
from flax_agnews.training.exactness import circumstances, inexact
from flax_agnews.training.history import lost
from flax_agnews.training.loop import Interrupted
from flax_agnews.training.parallel import Devices
from flax_agnews.training.processes import is_first, of_first
from flax_agnews.training.program import Program, plan_batches
from flax_agnews.training.saving import Saving, Write
from flax_agnews.training.state import TrainState, set_up
from flax_agnews.training.step import language_loss


class Progress:
    """What adaptation tells those who look on; the default is silence."""

    def step(self, epochs_done: float, tokens_per_second: float) -> None:
        """After every update."""

    def resumed(self, step: int, inexact: str | None) -> None:
        """When a saved state is taken up; `inexact` says why what follows isn't exact to the last digit."""

    def should_stop(self) -> bool:
        """Whether to save and stop after this update."""
        return False


@dataclass(frozen=True)
class Keep:
    """Where and when the state is saved on the way.

    Attributes:
        store: for this adaptation alone.
        saving: when.
    """

    store: Store
    saving: Saving


@dataclass
class Sums:
    """What an adaptation has been through: JSON-able, saved with every checkpoint.

    Attributes:
        loss, weight: sums of the epoch under way.
        losses: mean of each finished epoch, nats a token.
        seconds: so far, compilation included.
    """

    loss: float = 0.0
    weight: float = 0.0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, step: int, metrics: Mapping[str, Any]) -> None:
        """An update's metrics, as the step returned them; `step` counts from 1.

        Raises:
            Diverged: they are not finite. Whatever `train.on_nonfinite` says: every run starts from what is left.
        """
        numbers = {name: float(value) for name, value in metrics.items()}
        if numbers["skipped"]:
            raise Diverged([f"pretrain at step {step} ({lost(numbers)})"], f"Lower {flag('pretrain.learning_rate')}")
        self.loss, self.weight = self.loss + numbers["loss"], self.weight + numbers["weight"]

    def close(self) -> None:
        """Ends an epoch."""
        self.losses.append(self.loss / self.weight)
        self.loss = self.weight = 0.0


def adapt(
    base: Base,
    train: Split,
    end_of_text: int,
    config: PretrainConfig,
    model: ModelConfig,
    shared: TrainConfig,
    devices: Devices,
    seed: int,
    progress: Progress | None = None,
    keep: Keep | None = None,
) -> tuple[Base, Adaptation]:
    """Trains the whole body as a language model on the texts: AdamW, warm-up over 5 % of the updates, cosine to zero.

    Args:
        base: the body to start from; left as it is.
        train: the training texts (labels aren't read).
        end_of_text: id that ends every text.
        config, model, shared: settings; of `shared`, the section `train`, what `settings` says.
        devices: that share every batch.
        seed: of batches and dropout.
        progress: for displays and interruption.
        keep: saves on the way, and goes on from what was saved; without it nothing can be resumed.

    Raises:
        Interrupted: `progress` asked to stop; the state is saved.
        Diverged: numbers were not finite.
        UserError: a save failed, where `keep.saving` stops then.
    """
    started = time.perf_counter()
    program = _program(base, train, end_of_text, config, model, shared, devices, seed)
    state, sums = _train(program, config.epochs, seed, started, progress or Progress(), keep)
    body = {path: np.asarray(value) for path, value in devices.first(state.params).items()}
    adapted = renewed(base, body)
    arranged = arrangement(train, config, shared, devices, seed)
    key = adaptation_key(base, train, end_of_text, config, model, seed, arranged)
    return adapted, Adaptation(key, adapted.hash, sums.losses, sums.seconds)


def _program(
    base: Base,
    train: Split,
    end_of_text: int,
    config: PretrainConfig,
    model: ModelConfig,
    shared: TrainConfig,
    devices: Devices,
    seed: int,
) -> Program:
    """The compiled steps."""
    how = settings(config, shared)
    batches = plan_batches(train, how, [seed], devices)
    steps = batches.steps_per_epoch * config.epochs
    plan = Plan(steps, batches.steps_per_epoch, config.batch_size, base.config.n_layer, how)
    strategy = Strategy(
        name="language modelling",
        label=lambda path, shape: "body" if path.startswith(BODY) else FROZEN,
        transforms=lambda plan: {"body": plan.adamw(config.learning_rate)},
    )
    setup = set_up(strategy, base, 2, plan, model, int(train.tokens.lengths.max()))
    return Program(setup, devices, devices.shared(dict(base.parameters)), batches, {}, language_loss(end_of_text))


def _train(
    program: Program, epochs: int, seed: int, started: float, progress: Progress, keep: Keep | None
) -> tuple[TrainState, Sums]:
    """All updates that are still to do. Each update's metrics are read while the next one runs."""
    state, frozen = program.start(seed)
    done, sums, tokens = 0, Sums(), 0.0
    if keep and (done := of_first(newest([keep.store]) if is_first() else 0)):
        state, sums = _resume(program, state, done, keep.store, progress)
    if keep:
        keep.saving.begin(sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
    per_epoch, before, begun = program.batches.steps_per_epoch, sums.seconds, time.perf_counter()
    waiting: Mapping[str, Any] | None = None
    for step in range(done, epochs * per_epoch):
        epoch, index = divmod(step, per_epoch)
        state, metrics = program.train_step(state, frozen, seed, epoch, index)
        if waiting:
            sums.add(step, waiting)
        waiting = metrics
        stop, due = progress.should_stop(), keep and keep.saving.due(step + 1)
        if stop or due or index == per_epoch - 1:  # everything is read, so that what is saved is complete
            sums.add(step + 1, waiting)
            waiting = None
        if index == per_epoch - 1:
            sums.close()
        sums.seconds = before + time.perf_counter() - started
        tokens += program.lengths[program.batches.rows(seed, epoch, index)].sum()
        progress.step((step + 1) / per_epoch, tokens / (time.perf_counter() - begun))
        if keep and (stop or due):
            _save(program, state, sums, keep)
        if stop:
            raise Interrupted(step + 1 if keep and keep.saving.wait() else 0)
        if keep:
            keep.saving.check()
    if keep:
        keep.saving.wait()
    return state, sums


def _save(program: Program, state: TrainState, sums: Sums, keep: Keep) -> None:
    """Saves the state, in the background."""

    def copies() -> list[Write]:
        if not is_first():
            return []
        one = snapshot(program.devices.first(state))
        notes = {"circumstances": circumstances(program.devices), "sums": asdict(sums)}
        return [lambda sign: keep.store.save(int(one.step), one, notes, sign)]

    keep.saving.save("language modelling", copies)


def _resume(
    program: Program, state: TrainState, step: int, store: Store, progress: Progress
) -> tuple[TrainState, Sums]:
    saved, notes = store.restore(step, program.devices.first(state))
    progress.resumed(step, inexact(notes["circumstances"], circumstances(program.devices)))
    return program.devices.state(saved), Sums(**notes["sums"])
