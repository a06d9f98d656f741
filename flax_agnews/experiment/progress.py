"""Observers that show the progress of training, language modelling, caching and trials on the display."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import fmean

from rich.console import Console

from flax_agnews.config import Config
from flax_agnews.errors import flag
from flax_agnews.system.display import Display, Job
from flax_agnews.system.display import Progress as Line
from flax_agnews.system.interrupt import Interrupt
from flax_agnews.system.text import counted, words_duration
from flax_agnews.training.history import History
from flax_agnews.training.loop import TrainedRun
from flax_agnews.training.observer import Observer
from flax_agnews.training.program import Program

_ON_A_GPU = "first on a GPU: a minute or more"
"""Measured on an H200 with GPT-2: 49 s for the first two shapes, 12 s for each further one (docs/speed.md).

XLA tries several kernels for each product. The line, with the seconds after it, fits 80 columns.
"""


class JobObserver(Observer):
    """Shows a job, such as language modelling or a trial of rates, as a line with a bar.

    Args:
        display: where it is shown.
        job: name and number of epochs of the job.
        interrupt: tells whether a signal asked to stop.
    """

    def __init__(self, display: Display, job: Job, interrupt: Interrupt) -> None:
        self.display, self.job, self.interrupt = display, job, interrupt
        self._line: Line | None = None
        self._done_epochs = 0.0  # before this process started

    def start(self) -> Line:
        """Shows the line, if it isn't shown yet; the first update does so too."""
        if self._line is None:
            self._line = self.display.start(self.job.name, self.job.detail, self.job.epochs, self._done_epochs)
        return self._line

    def note(self, text: str) -> None:
        """Shows a message."""
        self.display.note(text)

    def step(self, done: float, tokens_per_second: float) -> None:
        """Moves the bar."""
        self.start().step(done, tokens_per_second)

    def resumed(self, step: int, inexact: str | None) -> None:
        """Shows at which step the job resumes, and why its result may differ from an uninterrupted one."""
        but = f"; {inexact}" if inexact else ""
        self.display.note(f"{self.job}: goes on at step {step}{but}")

    def should_stop(self) -> bool:
        """Whether SIGINT or SIGTERM arrived in any process."""
        return self.interrupt.check()

    def finish(self, text: str, whole: bool = True) -> None:
        """Ends the line with a text; `whole` is whether the job was completed."""
        self.start().finish(text, whole)


class RunsObserver(JobObserver):
    """Shows a run; runs that train together share one line with their means.

    Args:
        display: where it is shown.
        name: name of the strategy.
        seeds: seeds of the runs.
        epochs: number of epochs of each run.
        steps_per_epoch: updates per epoch.
        interrupt: tells whether a signal asked to stop.
    """

    def __init__(
        self, display: Display, name: str, seeds: Sequence[int], epochs: int, steps_per_epoch: int, interrupt: Interrupt
    ) -> None:
        super().__init__(display, job_of(name, seeds, epochs), interrupt)
        self.runs, self.steps_per_epoch = [f"{name} seed {seed}" for seed in seeds], steps_per_epoch

    def epoch(self, epoch: int, histories: Sequence[History]) -> None:
        """Shows the last and the best validation accuracy, and reports each run's skipped updates and loss spikes."""
        sound = [history for history in histories if not history.fault]
        last = fmean(history.val_accuracy[-1] for history in sound)
        best = fmean(max(history.val_accuracy) for history in sound)
        self.start().epoch(epoch, f"val {last:.3f}  best {best:.3f}")
        for run, history in zip(self.runs, histories, strict=True):
            if len(history.val_accuracy) < epoch:  # the run had ended early
                continue
            if skipped := history.skipped[-1]:
                self.display.note(f"{run}: {counted(skipped, 'update')} of epoch {epoch} not finite and left out")
            if spikes := history.spikes[-1]:
                self.display.note(f"{run}: {counted(spikes, 'loss spike')} in epoch {epoch}")

    def ended(self, number: int, history: History) -> None:
        """Reports that a run ended early, with the epoch of its best validation accuracy."""
        when = f"after epoch {len(history.val_accuracy)} of {self.job.epochs}"
        best = f"epoch {history.best_epoch} ({history.val_accuracy[history.best_epoch - 1]:.3f})"
        self.display.note(f"{self.runs[number]}: ended early, {when}: validation accuracy no better since {best}")

    def resumed(self, step: int, inexact: str | None) -> None:
        """Shows at which step the runs resume, and why their results may differ from uninterrupted ones."""
        self._done_epochs = step / self.steps_per_epoch
        super().resumed(step, inexact)

    def tested(self, runs: Sequence[TrainedRun | None], faults: Sequence[str], majority: float) -> None:
        """Ends the line with each run's test accuracy, and reports runs that stopped or learned nothing.

        Args:
            runs: the finished runs, None for one that stopped.
            faults: where each run stopped and why; empty for one that didn't.
            majority: accuracy of always answering the most frequent class.
        """
        accuracies = [f"{run.test.accuracy:.3f}" if run else "stopped" for run in runs]
        whole = any(run and len(run.history.val_accuracy) == self.job.epochs for run in runs)
        self.finish(f"test {' '.join(accuracies)}" if any(runs) else "not finite", whole)
        for name, run, fault in zip(self.runs, runs, faults, strict=True):
            if fault:
                self.display.note(f"{name}: not finite {fault}")
            if run and run.test.accuracy <= majority:
                self.display.note(f"{name}: no better than always answering the most frequent class ({majority:.3f})")


class CachingObserver(JobObserver):
    """Shows how the output of a strategy's frozen layers is cached: a message, and a bar under it.

    Args:
        display: where it is shown.
        name: name of the strategy.
        interrupt: tells whether a signal asked to stop.
    """

    def __init__(self, display: Display, name: str, interrupt: Interrupt) -> None:
        super().__init__(display, Job("cache", name, 1), interrupt)
        self._said_how_long = False

    def caching(self, text: str) -> None:
        """Starts a line; a strategy may have several, one after the other."""
        self.display.note(f"{self.job.detail}: {text}")
        self._line = None
        self.start()

    def step(self, done: float, tokens_per_second: float) -> None:
        """Moves the bar; without one, reports once the time left, where that is a minute or more."""
        super().step(done, tokens_per_second)
        left = self.start().seconds_left(None)
        if not self.display.live and not self._said_how_long and left is not None and done > 0.02:
            self._said_how_long = True
            if left >= 60:
                self.display.note(f"{self.job.detail}: caching takes about {words_duration(left)}")

    def cached(self) -> None:
        """Ends the line."""
        self.finish("kept for all epochs and seeds")


def compiling(display: Display, name: str, platform: str) -> AbstractContextManager[None]:
    """A context in which programs are compiled: says so, and how long it takes where that is long.

    Args:
        display: where it is shown.
        name: name of the strategy, or what else is compiled.
        platform: kind of the devices: cpu, gpu or tpu.
    """
    return display.busy(f"compiling {name}", _ON_A_GPU if platform == "gpu" else "")


def wait_for(program: Program, display: Display) -> None:
    """Waits until a program is compiled, and shows that where it isn't yet."""
    waits = not program.ready
    with compiling(display, program.setup.name, program.devices.platform) if waits else nullcontext():
        program.wait()


def silent() -> Display:
    """A display that shows nothing, for all processes but the first."""
    return Display(Console(quiet=True, force_terminal=False))


def job_of(name: str, seeds: Sequence[int], epochs: int) -> Job:
    """The job of a run, or of runs that train together, as the display names it."""
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"{counted(len(seeds), 'seed')} from {seeds[0]}"
    return Job(name, which, epochs)


def advice(config: Config) -> str:
    """A sentence of advice for runs whose numbers were not finite."""
    ways = ["Lower the learning rate", f"set a lower {flag('train.clip_norm')}"]
    ways += [f"compute in {flag('model.dtype')} float32"] if config.model.dtype != "float32" else []
    ways += (
        [f"go on without such updates ({flag('train.on_nonfinite')} skip)"]
        if config.train.on_nonfinite == "stop"
        else []
    )
    return f"{', '.join(ways[:-1])}, or {ways[-1]}"
