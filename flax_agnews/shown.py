"""What a run tells, on the display."""

from functools import cached_property

from flax_agnews.display import Display, Progress
from flax_agnews.interrupt import Interrupt
from flax_agnews.training.loop import History, Watch


class Shown(Watch):
    """A run's line on the display.

    Args:
        display: where.
        name, seed, epochs: of the run.
        steps_per_epoch: updates an epoch.
        interrupt: asked whether to stop.
    """

    def __init__(
        self, display: Display, name: str, seed: int, epochs: int, steps_per_epoch: int, interrupt: Interrupt
    ) -> None:
        self.display, self.name, self.seed, self.epochs = display, name, seed, epochs
        self.steps_per_epoch, self.interrupt = steps_per_epoch, interrupt
        self._done = 0.0

    @cached_property
    def progress(self) -> Progress:
        """The line; begins with the first update, which may be a resumed one."""
        return self.display.start(self.name, f"seed {self.seed}", self.epochs, self._done)

    def step(self, epochs_done: float, tokens_per_second: float) -> None:
        """Moves the bar."""
        self.progress.step(epochs_done, tokens_per_second)

    def epoch(self, epoch: int, history: History) -> None:
        """Shows the validation accuracy, and the best so far."""
        self.progress.epoch(epoch, f"val {history.val_accuracy[-1]:.3f}  best {max(history.val_accuracy):.3f}")

    def resumed(self, step: int) -> None:
        """Says where a run goes on."""
        self._done = step / self.steps_per_epoch
        self.display.note(f"{self.name} seed {self.seed}: goes on at step {step}")

    def should_stop(self) -> bool:
        """After SIGINT or SIGTERM."""
        return bool(self.interrupt.asked)
