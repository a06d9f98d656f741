"""The first lines of an experiment on the display: versions and devices, then data, model and plan."""

from collections.abc import Mapping, Sequence

import jax

from flax_agnews import __version__
from flax_agnews.config import Config
from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.encoded import Data
from flax_agnews.data.shapes import MOST, Choice
from flax_agnews.errors import flag, listed
from flax_agnews.experiment.results import products
from flax_agnews.metrics.scores import spread
from flax_agnews.models.pretrained import Base
from flax_agnews.system.display import Display
from flax_agnews.system.environment import not_kept
from flax_agnews.system.machine import cpuinfo, lacks_bfloat16
from flax_agnews.system.text import count, counted, share_text, short_names, type_text
from flax_agnews.training.parallel import Devices


def announce_start(display: Display, config: Config, workers: Sequence[Devices]) -> None:
    """Shows versions, devices and output folder, and what may be slow or isn't kept on this machine.

    Args:
        display: where the lines are shown.
        config: all settings.
        workers: the devices that train a job at a time.
    """
    devices = workers[0]
    several = f" in {counted(devices.team.count, 'process')}" if devices.several else ""
    numbers = type_text(config.model.dtype, products(config.model, devices))
    each = ", a run on each" if len(workers) > 1 else ""
    each = ", with the training state split over them" if devices.splits else each
    what = f"{sum(map(len, workers))} x {devices.platform.upper()}{several}{each} · {numbers}"
    display.note(f"flax_agnews {__version__} · JAX {jax.__version__} · {what} · output {config.output}")
    if message := not_kept():
        display.note(message)
    if message := slow_type(config.model.dtype, devices.devices[0].platform, cpuinfo()):
        display.note(message)


def slow_type(dtype: str, platform: str, text: str) -> str | None:
    """A warning where `dtype` computes more slowly than float32 on this device; else None.

    Args:
        dtype: `model.dtype`.
        platform: JAX's name of the platform, such as `cpu`.
        text: the processor's description, from `cpuinfo`.
    """
    if dtype != "bfloat16" or platform != "cpu" or not lacks_bfloat16(text):
        return None
    return (
        "bfloat16 is slower than float32 on this processor, which has no products of it "
        "(AVX512-BF16 or AMX-BF16 on x86, BF16 on ARM); leave out --model.dtype, or set it to float32"
    )


def announce_plan(
    display: Display,
    config: Config,
    data: Data,
    base: Base,
    batches: TrainBatches,
    runs: Mapping[str, int],
    disk: int,
) -> None:
    """Shows one line each on data, model and plan.

    Args:
        display: where the lines are shown.
        config: all settings.
        data: the tokenized splits.
        base: the body that every run starts from.
        batches: the plan of training batches.
        runs: name of a strategy -> number of its runs that this shard trains, by default all.
        disk: the most bytes that weights and checkpoints take.
    """
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
    own, every = sum(runs.values()), len(runs) * train.runs
    steps = counted(batches.steps_per_epoch * train.epochs * own, "step")
    counts = [counted(len(runs), "strategy"), counted(train.runs, "seed"), counted(train.epochs, "epoch")]
    shard = f"shard {config.parallel.shard}, {own} of {every} runs · " if own < every else ""
    most = "up to " if train.early_stopping else ""
    padding = (
        f"padding {batches.waste:.1%} of the computed tokens in {shapes_text(len(batches.shapes), batches.choice)}"
    )
    display.say("plan", f"{' x '.join(counts)} · {shard}{most}{steps} · {padding} · up to {count(disk)}B on disk")


def announce_idle(display: Display, workers: int, at_once: int) -> None:
    """Shows how many devices have no run to train, where runs are spread over more devices than there are runs."""
    if at_once < workers:
        how = f"{flag('parallel.spread')} batch uses all for each"
        display.note(f"{workers - at_once} of {workers} devices have nothing to train; {how}")


def shapes_text(number: int, choice: Choice | None) -> str:
    """Number of batch shapes, and why there are so many.

    Args:
        number: number of shapes.
        choice: the reason, where the number was chosen (`train.shapes: auto`).
    """
    shapes = counted(number, "shape")
    if choice is None:
        return shapes
    if choice.shapes == MOST:
        return f"{shapes}, the most"
    if not choice.saving:
        return f"{shapes}, no more would save anything"
    seconds = f"cost {choice.compiling:.1f} s to compile and save {choice.saving:.1f} s of padding"
    return f"{shapes} (for each strategy, one more would {seconds})"


def _left_out(base: Base, config: Config) -> str:
    """Names unused heads in the model's files, `; its head score is left out`; empty where there are none."""
    if not base.left_out or config.model.start == config.model.name:
        return ""
    one = len(base.left_out) == 1
    return f"; its {'head' if one else 'heads'} {listed(base.left_out)} {'is' if one else 'are'} left out"


def _classes(data: Data) -> str:
    """Number of classes, class imbalance and empty classes: `4 classes`, or `2 classes, spam 4.1 % to ham 96 %`."""
    found, names = spread(data.class_texts), short_names(data.classes)
    parts = [counted(len(names), "class")]
    if found.uneven:
        ends = ((found.rarest, found.fewest), (found.commonest, found.most))
        parts.append(" to ".join(f"{names[number]} {share_text(texts, found.texts)}" for number, texts in ends))
    if found.empty:
        empty = listed((name for name, texts in zip(names, data.class_texts, strict=True) if not texts), 3)
        parts.append(f"without training texts: {empty}")
    return ", ".join(parts)
