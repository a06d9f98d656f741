"""What an experiment and its runs tell, on the display."""

from collections.abc import Sequence
from functools import cached_property
from statistics import fmean

import jax
from rich.console import Console

from flax_agnews import __version__
from flax_agnews.config import Config
from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.encoded import Data
from flax_agnews.errors import listed
from flax_agnews.metrics.scores import spread
from flax_agnews.models.pretrained import Base
from flax_agnews.system.display import Display, Job
from flax_agnews.system.display import Progress as Line
from flax_agnews.system.environment import not_kept
from flax_agnews.system.interrupt import Interrupt
from flax_agnews.system.machine import cpuinfo, lacks_bfloat16
from flax_agnews.system.text import count, counted, share_text, short_names, words_duration
from flax_agnews.training import processes
from flax_agnews.training.activation_cache import Told
from flax_agnews.training.history import History
from flax_agnews.training.loop import Run, Watch
from flax_agnews.training.parallel import Devices
from flax_agnews.training.pretrain import Progress


class Shown(Watch):
    """A run's line on the display; of runs that train together, one line with their means.

    Args:
        display: where.
        name: of the strategy.
        seeds: of the runs.
        epochs: of each.
        steps_per_epoch: updates an epoch.
        interrupt: asked whether to stop.
    """

    def __init__(
        self, display: Display, name: str, seeds: Sequence[int], epochs: int, steps_per_epoch: int, interrupt: Interrupt
    ) -> None:
        self.display, self.job, self.runs = display, job(name, seeds, epochs), [f"{name} seed {seed}" for seed in seeds]
        self.steps_per_epoch, self.interrupt = steps_per_epoch, interrupt
        self._done = 0.0

    @cached_property
    def progress(self) -> Line:
        """The line; begins with the first update, which may be a resumed one."""
        return self.display.start(self.job.name, self.job.detail, self.job.epochs, self._done)

    def step(self, epochs_done: float, tokens_per_second: float) -> None:
        """Moves the bar."""
        self.progress.step(epochs_done, tokens_per_second)

    def epoch(self, epoch: int, histories: Sequence[History]) -> None:
        """Shows the validation accuracy and the best so far, and says of each run what was odd in its epoch."""
        sound = [history for history in histories if not history.fault]
        last = fmean(history.val_accuracy[-1] for history in sound)
        best = fmean(max(history.val_accuracy) for history in sound)
        self.progress.epoch(epoch, f"val {last:.3f}  best {best:.3f}")
        for run, history in zip(self.runs, histories, strict=True):
            if len(history.val_accuracy) < epoch:  # ended before
                continue
            if skipped := history.skipped[-1]:
                self.display.note(f"{run}: {counted(skipped, 'update')} of epoch {epoch} not finite and left out")
            if spikes := history.spikes[-1]:
                self.display.note(f"{run}: {counted(spikes, 'loss spike')} in epoch {epoch}")

    def ended(self, number: int, history: History) -> None:
        """Says that a run ends early, when, and since when it is no better."""
        when = f"after epoch {len(history.val_accuracy)} of {self.job.epochs}"
        best = f"epoch {history.best_epoch} ({history.val_accuracy[history.best_epoch - 1]:.3f})"
        self.display.note(f"{self.runs[number]}: ended early, {when}: validation accuracy no better since {best}")

    def resumed(self, step: int, inexact: str | None) -> None:
        """Says where a run goes on, and whether exactly."""
        self._done = step / self.steps_per_epoch
        self.display.note(f"{self.job.name} {self.job.detail}: goes on at step {step}{_but(inexact)}")

    def should_stop(self) -> bool:
        """After SIGINT or SIGTERM, in any process."""
        return self.interrupt.check()

    def tested(self, runs: Sequence[Run | None], faults: Sequence[str], majority: float) -> None:
        """Ends the line with each run's accuracy on the test split; names runs that stopped or learned nothing.

        Args:
            runs: None for one that stopped.
            faults: where each stopped, or nothing.
            majority: accuracy of always answering the most frequent class.
        """
        accuracies = [f"{run.test.accuracy:.3f}" if run else "stopped" for run in runs]
        whole = any(run and len(run.history.val_accuracy) == self.job.epochs for run in runs)
        self.progress.finish(f"test {' '.join(accuracies)}" if any(runs) else "not finite", whole)
        for name, run, fault in zip(self.runs, runs, faults, strict=True):
            if fault:
                self.display.note(f"{name}: not finite {fault}")
            if run and run.test.accuracy <= majority:
                self.display.note(f"{name}: no better than always answering the most frequent class ({majority:.3f})")


class ShownAdapting(Progress):
    """A line on the display for language-model adaptation.

    Args:
        display: where.
        epochs: of it.
        interrupt: asked whether to stop.
    """

    def __init__(self, display: Display, epochs: int, interrupt: Interrupt) -> None:
        self.display, self.interrupt = display, interrupt
        self._line = display.start("pretrain", "", epochs)

    def step(self, epochs_done: float, tokens_per_second: float) -> None:
        """Moves the bar."""
        self._line.step(epochs_done, tokens_per_second)

    def resumed(self, step: int, inexact: str | None) -> None:
        """Says where it goes on, and whether exactly."""
        self.display.note(f"pretrain: goes on at step {step}{_but(inexact)}")

    def should_stop(self) -> bool:
        """After SIGINT or SIGTERM."""
        return self.interrupt.check()

    def finish(self, losses: Sequence[float]) -> None:
        """Ends the line."""
        ends = dict.fromkeys(f"{loss:.2f}" for loss in (losses[0], losses[-1]))
        self._line.finish(f"loss {' → '.join(ends)}")


class ShownCaching(Told):
    """A line on the display for the cache of a strategy's frozen layers.

    Args:
        display: where.
        name: of the strategy.
        interrupt: asked whether to stop.
    """

    def __init__(self, display: Display, name: str, interrupt: Interrupt) -> None:
        self.display, self.name, self.interrupt = display, name, interrupt
        self._left_told = False

    def note(self, text: str) -> None:
        """A line."""
        self.display.note(text)

    def begin(self, text: str) -> None:
        """A line, and a bar under it."""
        self.display.note(f"{self.name}: {text}")
        self._progress = self.display.start("cache", self.name, 1)

    def step(self, done: float, tokens_per_second: float) -> None:
        """Moves the bar; where there is none, says once how long it takes, if that is minutes."""
        self._progress.step(done, tokens_per_second)
        left = self._progress.seconds_left(None)
        if not self.display.live and not self._left_told and left is not None and done > 0.02:
            self._left_told = True
            if left >= 60:
                self.display.note(f"{self.name}: caching takes about {words_duration(left)}")

    def finish(self) -> None:
        """Ends the line."""
        self._progress.finish("kept for all epochs and seeds")

    def should_stop(self) -> bool:
        """After SIGINT or SIGTERM."""
        return self.interrupt.check()


class ShownTrial(Watch):
    """A line on the display for a trial of rates.

    Args:
        display: where.
        planned: what it is called.
        interrupt: asked whether to stop.
    """

    def __init__(self, display: Display, planned: Job, interrupt: Interrupt) -> None:
        self.interrupt = interrupt
        self._line = display.start(planned.name, planned.detail, planned.epochs)

    def step(self, epochs_done: float, tokens_per_second: float) -> None:
        """Moves the bar."""
        self._line.step(epochs_done, tokens_per_second)

    def should_stop(self) -> bool:
        """After SIGINT or SIGTERM, in any process."""
        return self.interrupt.check()

    def finish(self, accuracy: float | None) -> None:
        """Ends the line with the validation accuracy; None where numbers were not finite."""
        self._line.finish("not finite" if accuracy is None else f"val {accuracy:.3f}", whole=accuracy is not None)


def silent() -> Display:
    """A display that shows nothing: of several processes, one tells."""
    return Display(Console(quiet=True, force_terminal=False))


def _but(inexact: str | None) -> str:
    return f"; {inexact}" if inexact else ""


def job(name: str, seeds: Sequence[int], epochs: int) -> Job:
    """What the display calls a run, or runs that train together."""
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"{counted(len(seeds), 'seed')} from {seeds[0]}"
    return Job(name, which, epochs)


def advice(config: Config) -> str:
    """What to do where numbers were not finite."""
    ways = ["Lower the learning rate", "set a lower --train.clip_norm"]
    ways += ["compute in --model.dtype float32"] if config.model.dtype != "float32" else []
    ways += ["go on without such updates (--train.on_nonfinite skip)"] if config.train.on_nonfinite == "stop" else []
    return f"{', '.join(ways[:-1])}, or {ways[-1]}"


def announce(display: Display, config: Config, devices: Devices) -> None:
    """The first line: versions, devices, output folder."""
    several = f" in {counted(processes.count(), 'process')}" if devices.several else ""
    what = f"{len(devices)} x {devices.devices[0].platform.upper()}{several} · {config.model.dtype}"
    display.note(f"flax_agnews {__version__} · JAX {jax.__version__} · {what} · output {config.output}")
    if told := not_kept():
        display.note(told)
    if told := slow_type(config.model.dtype, devices.devices[0].platform, cpuinfo()):
        display.note(told)


def slow_type(dtype: str, platform: str, text: str) -> str | None:
    """A line where the compute type is slower than float32 on this kind of device; `text` is of `cpuinfo`."""
    if dtype != "bfloat16" or platform != "cpu" or not lacks_bfloat16(text):
        return None
    return (
        "bfloat16 is slower than float32 on this processor, which has no products of it "
        "(AVX512-BF16 or AMX-BF16 on x86, BF16 on ARM); leave out --model.dtype, or set it to float32"
    )


def describe(
    display: Display, config: Config, data: Data, base: Base, batches: TrainBatches, strategies: int, disk: int
) -> None:
    """Data, model and plan, before anything is computed; `disk` is bytes of weights and states."""
    lengths, body, train = data.train.tokens.lengths, base.config, config.train
    sizes = f"{len(data.train):,} train · {len(data.validation):,} validation · {len(data.test):,} test"
    cut = f" · {data.truncated:,} cut at {config.data.max_length}" if data.truncated else ""
    tokens = f"{counted(round(lengths.mean()), 'token')} a text (longest {lengths.max()}){cut}"
    display.say("data", " · ".join([f"{data.name}: {sizes}", _classes(data), tokens, *data.notes]))
    numbers = count(sum(value.size for value in base.parameters.values()))
    first = (
        f"; {counted(config.pretrain.epochs, 'epoch')} of language modelling first" if config.pretrain.epochs else ""
    )
    given = f"; first values from {config.model.start}" if config.model.start else ""
    body_line = f"{base.name}: {body.n_layer} x {body.n_embd}, {numbers} parameters{first}{given}"
    display.say("model", body_line + _left_out(base, config))
    steps = counted(batches.steps_per_epoch * train.epochs * train.runs * strategies, "step")
    counts = [counted(strategies, "strategy"), counted(train.runs, "seed"), counted(train.epochs, "epoch")]
    most = "up to " if train.early_stopping else ""
    padding = f"padding {batches.waste:.1%} of the computed tokens"
    display.say("plan", f"{' x '.join(counts)} · {most}{steps} · {padding} · up to {count(disk)}B on disk")


def _left_out(base: Base, config: Config) -> str:
    """`; its head score is left out`: what the files have beside the body, unless the runs start from it."""
    if not base.left_out or config.model.start == config.model.name:
        return ""
    one = len(base.left_out) == 1
    return f"; its {'head' if one else 'heads'} {listed(base.left_out)} {'is' if one else 'are'} left out"


def _classes(data: Data) -> str:
    """`4 classes`; where they are uneven, `2 classes, spam 4.1 % to ham 96 %`, and which have no training texts."""
    found, names = spread(data.class_texts), short_names(data.classes)
    parts = [counted(len(names), "class")]
    if found.uneven:
        ends = ((found.rarest, found.fewest), (found.commonest, found.most))
        parts.append(" to ".join(f"{names[number]} {share_text(texts, found.texts)}" for number, texts in ends))
    if found.empty:
        empty = listed((name for name, texts in zip(names, data.class_texts, strict=True) if not texts), 3)
        parts.append(f"without training texts: {empty}")
    return ", ".join(parts)
