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

from flax_agnews.errors import Diverged, flag
from flax_agnews.models.pretrained import BODY, Base
from flax_agnews.strategies.base import Strategy
from flax_agnews.strategies.optim import FROZEN, Plan
from flax_agnews.training.adaptation import Adaptation, AdaptationTask, renewed
from flax_agnews.training.checkpoint import Store, newest, snapshot
from flax_agnews.training.exactness import circumstances, inexact
from flax_agnews.training.history import lost
from flax_agnews.training.observer import Observer
from flax_agnews.training.program import Inputs, Program
from flax_agnews.training.saving import Saving, Write
from flax_agnews.training.state import set_up
from flax_agnews.training.step import language_loss
from flax_agnews.training.updates import train_epochs


@dataclass
class Losses:
    """The numbers of an adaptation so far; serialisable as JSON, saved with every checkpoint.

    Attributes:
        loss, weight: sums over the current epoch.
        losses: mean loss of each finished epoch, in nats per token.
        seconds: time so far, compilation included.
    """

    loss: float = 0.0
    weight: float = 0.0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Adds an update's metrics, as the step returned them; `step` counts from 1.

        Raises:
            Diverged: they are not finite; regardless of `train.on_nonfinite`, since every run starts from the result.
        """
        numbers = {name: float(value) for name, value in metrics.items()}
        if numbers["skipped"]:
            raise Diverged([f"pretrain at step {step} ({lost(numbers)})"], f"Lower {flag('pretrain.learning_rate')}")
        self.loss, self.weight = self.loss + numbers["loss"], self.weight + numbers["weight"]

    def close(self) -> None:
        """Ends an epoch: appends its mean loss to `losses`."""
        self.losses.append(self.loss / self.weight)
        self.loss = self.weight = 0.0


def adapt(
    task: AdaptationTask,
    observer: Observer | None = None,
    store: Store | None = None,
    saving: Saving | None = None,
    program: Program | None = None,
) -> tuple[Base, Adaptation]:
    """Trains the whole body as a language model on the texts: AdamW, warm-up over 5 % of the updates, cosine to zero.

    Args:
        task: body, texts and settings.
        observer: receives progress, and may interrupt.
        store: checkpoints of this adaptation, from which it is resumed; without it nothing can be resumed.
        saving: when to save checkpoints into the store; never by default.
        program: the compiled steps (`compile_steps`); by default they are compiled here.

    Raises:
        Interrupted: `observer` asked to stop; the state is saved.
        Diverged: numbers were not finite.
        UserError: a save failed, and `saving` stops then.
    """
    started = time.perf_counter() - (program.compile_seconds if program else 0)
    modelling = LanguageModelling(program or compile_steps(task), task.seed, store, started)
    train_epochs(modelling, task.config.epochs, saving, observer or Observer())
    if saving:
        saving.wait()
    body = {path: np.asarray(value) for path, value in task.devices.first(modelling.state.params).items()}
    adapted, numbers = renewed(task.base, body), modelling.numbers
    return adapted, Adaptation(task.key, adapted.hash, numbers.losses, numbers.seconds)


def compile_steps(task: AdaptationTask) -> Program:
    """Compiles the steps of language modelling."""
    config, base, batches = task.config, task.base, task.batches(task.settings)
    steps = batches.steps_per_epoch * config.epochs
    plan = Plan(steps, batches.steps_per_epoch, config.batch_size, base.config.n_layer, task.settings)
    strategy = Strategy(
        name="language modelling",
        label=lambda path, shape: "body" if path.startswith(BODY) else FROZEN,
        transforms=lambda plan: {"body": plan.adamw(config.learning_rate)},
    )
    setup = set_up(strategy, base, 2, plan, task.model, int(task.train.tokens.lengths.max()))
    shared = task.devices.body(dict(base.parameters))
    return Program(setup, task.devices, shared, Inputs(batches), language_loss(task.end_of_text))


class LanguageModelling:
    """Training of the body as a language model, resumed from its newest checkpoint; a `Training` (see updates.py).

    Args:
        program: the compiled steps.
        seed: seed of batches and dropout.
        store: its checkpoints.
        started: time at which it began, by `time.perf_counter`.

    Attributes:
        step: number of updates so far.
        state: the training state, on the devices.
        numbers: losses and seconds so far.
        inexact: why the numbers after resuming may differ in the last digits; None if they don't.
        over: always false; it only ends early by raising `Diverged`.
    """

    inexact: str | None = None
    over = False

    def __init__(self, program: Program, seed: int, store: Store | None, started: float) -> None:
        self.program, self.seed, self.store = program, seed, store
        self.state, self._frozen = program.start(seed)
        self.step, self.numbers = 0, Losses()
        team = program.devices.team
        if store and (step := team.of_first(newest([store]) if team.is_first else 0)):
            self._resume(store, step)
        self._started = started - self.numbers.seconds

    def _resume(self, store: Store, step: int) -> None:
        devices = self.program.devices
        saved, notes = store.restore(step, devices.first(self.state))
        self.state, self.step, self.numbers = devices.state(saved), step, Losses(**notes["sums"])
        self.inexact = inexact(notes["circumstances"], circumstances(devices))

    @property
    def steps_per_epoch(self) -> int:
        """Number of updates per epoch."""
        return self.program.batches.steps_per_epoch

    @property
    def bytes(self) -> int:
        """Size of a checkpoint in bytes."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.state))

    def update(self, epoch: int, index: int) -> Mapping[str, Any]:
        """Makes the update `index` of an epoch; its metrics stay on the device until `read` fetches them."""
        self.state, metrics = self.program.train_step(self.state, self._frozen, self.seed, epoch, index)
        self.step += 1
        return metrics

    def read(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Records the metrics of an update; `step` counts from 1.

        Raises:
            Diverged: they are not finite.
        """
        self.numbers.add(step, metrics)

    def count(self, epoch: int, index: int, seconds: float) -> int:
        """Records the total time so far; returns the number of tokens in the update."""
        self.numbers.seconds = time.perf_counter() - self._started
        return int(self.program.lengths[self.program.batches.rows(self.seed, epoch, index)].sum())

    def end_epoch(self, epoch: int, last: bool, observer: Observer) -> None:
        """Records the epoch's mean loss."""
        self.numbers.close()

    def save(self, saving: Saving) -> None:
        """Saves a checkpoint, in the background; of several processes, only the first does."""
        saving.save("language modelling", self._writes)

    def _writes(self) -> list[Write]:
        devices, store = self.program.devices, self.store
        if not store or not devices.team.is_first:
            return []
        one = snapshot(devices.first(self.state))
        notes = {"circumstances": circumstances(devices), "sums": asdict(self.numbers)}
        return [lambda sign: store.save(int(one.step), one, notes, sign)]
