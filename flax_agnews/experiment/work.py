"""How long the parts of a comparison take: measured here in a few steps, or counted in FLOP for a device of a table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import numpy as np

from flax_agnews.data.encoded import Split
from flax_agnews.experiment.prepared import Prepared
from flax_agnews.models.parameters import Parameters, count_numbers
from flax_agnews.models.pretrained import body_shapes
from flax_agnews.training.activation_cache import Activations
from flax_agnews.training.compiler import Compiler
from flax_agnews.training.device_table import Kind
from flax_agnews.training.flops import Amount, frozen_flops, training_flops
from flax_agnews.training.frozen_layers import Trunk
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Inputs, Program, training_loss
from flax_agnews.training.shape_prices import Prices
from flax_agnews.training.state import Setup
from flax_agnews.training.timing import evaluation_seconds, update_seconds


@dataclass(frozen=True)
class Left:
    """A group of runs of a strategy with updates left.

    Attributes:
        seeds: seeds of the runs, which train together.
        steps: updates of each that are left.
        begun: updates of each that were made before.
    """

    seeds: tuple[int, ...]
    steps: int
    begun: int = 0


@dataclass(frozen=True)
class Cost:
    """Seconds of a strategy.

    Attributes:
        groups: of each group of runs, with evaluation, without compiling.
        compiling: until its programs are compiled, or read from the cache of compiled programs.
        caching: to compute frozen layers' output that isn't cached yet, and that no strategy before needs.
        compiled_now: that compiling took in the measurement.
    """

    groups: tuple[float, ...]
    compiling: float
    caching: float
    compiled_now: float = 0.0


Missing = Mapping[str, tuple[Trunk, Split]]
"""Output of frozen layers that isn't cached yet, from `Activations.planned`."""


class Costs(Protocol):
    """Interface of what tells a strategy's cost.

    Attributes:
        rate: FLOP a second; None where time is measured.
    """

    rate: float | None

    def cost(self, setup: Setup, inputs: Inputs, missing: Missing, groups: Sequence[Left]) -> Cost:
        """Seconds of a strategy.

        Args:
            setup: the strategy on the model.
            inputs, missing: from `Activations.planned`.
            groups: its runs that are left.
        """


class Measured:
    """Measures strategies on devices of this machine.

    Args:
        made: the experiment.
        devices: the devices of a run.
        activations: plans and opens caches for these devices.
        shared: the body's weights on them.
    """

    def __init__(self, made: Prepared, devices: Devices, activations: Activations, shared: Parameters) -> None:
        self.rate: float | None = None
        self.made, self.devices, self.activations, self.shared = made, devices, activations, shared
        self._known: set[str] = set()
        self._compilers = Compiler(devices), Compiler(devices)

    def cost(self, setup: Setup, inputs: Inputs, missing: Missing, groups: Sequence[Left]) -> Cost:
        """As `Costs`: its programs are compiled, and a few steps of each shape timed."""
        train, per_epoch = self.made.config.train, inputs.batches.steps_per_epoch
        caching = sum(
            self.activations.filling_seconds(trunk, self.shared, split)
            for key, (trunk, split) in missing.items()
            if key not in self._known
        )
        self._known |= missing.keys()
        loss = training_loss(self.made.data.train.labels, setup.model.classes, train)
        sizes = {len(group.seeds) for group in groups}
        program = Program(setup, self.devices, self.shared, inputs, loss, sizes, self._compilers[0])
        kept = self.made.config.parallel.keep_compilations
        if kept:  # as the runs, which trace anew, and read what is compiled
            jax.clear_caches()
            again = Program(setup, self.devices, self.shared, inputs, loss, sizes, self._compilers[1])
        tested = evaluation_seconds(program, groups[0].seeds[0])
        alike: dict[tuple[int, int], float] = {}
        for group in groups:
            if (kind := (len(group.seeds), group.begun)) not in alike:
                epochs = range(group.begun // per_epoch, train.epochs)
                share = group.steps / (len(epochs) * per_epoch)
                seconds = share * update_seconds(program, group.seeds, epochs)
                alike[kind] = seconds + len(group.seeds) * (len(epochs) * tested["validation"] + tested["test"])
        times = tuple(alike[len(group.seeds), group.begun] for group in groups)
        compiling = again.compile_seconds if kept else program.compile_seconds
        return Cost(times, compiling, caching, program.compile_seconds)


class Counted:
    """Counts the FLOP of strategies, for a device of a table.

    Args:
        made: the experiment.
        kind: the device.
        split: number of devices that share every batch.
    """

    def __init__(self, made: Prepared, kind: Kind, split: int = 1) -> None:
        self.made, self.body = made, made.base.config
        self.speed = split * kind.rate(self.body, made.config.model.dtype)
        self.rate: float | None = self.speed
        self.prices = Prices("gpu", self.body, made.config.model.dtype)
        self._depths: set[int] = set()

    def cost(self, setup: Setup, inputs: Inputs, missing: Missing, groups: Sequence[Left]) -> Cost:
        """As `Costs`, at the device's rate; nothing is cached or compiled there yet."""
        data, train, per_epoch = self.made.data, self.made.config.train, inputs.batches.steps_per_epoch
        texts = Amount.of(data.train.tokens.lengths, per_epoch)
        splits = [Amount.of(split.tokens.lengths) for split in (data.validation, data.test)]
        filled, stages = 1 - inputs.batches.waste, setup.stages
        depths = {batches.data.depth for batches in inputs.by_stage}
        every = Amount.of(np.concatenate([s.tokens.lengths for s in (data.train, data.validation, data.test)]))
        caching = sum(frozen_flops(setup, every, depth) for depth in depths - self._depths)
        self._depths |= depths
        depth, layers = min(depths), self.body.n_layer
        validation, test = (frozen_flops(setup, s, layers) - frozen_flops(setup, s, depth) for s in splits)
        times = []
        for group in groups:
            epochs = range(group.begun // per_epoch, train.epochs)
            numbers = Counter(map(setup.stage_of, epochs))
            update = sum(
                number * training_flops(stages[stage], texts, inputs.by_stage[stage].data.depth)
                for stage, number in numbers.items()
            )
            share = group.steps / (len(epochs) * per_epoch)
            flop = share * update / filled + len(epochs) * validation + test
            times.append(len(group.seeds) * flop / self.speed)
        shapes = sum(len(batches.shapes) for batches in inputs.by_stage)
        tested = sum(len(batches.shapes) for batches in inputs.evaluated.values())
        training, evaluation = self.prices.training(train).compiling, self.prices.evaluation(1).compiling
        sizes = len({len(group.seeds) for group in groups})
        compiling = sizes * shapes * training + tested * evaluation
        return Cost(tuple(times), compiling, caching / self.speed)


def adapting_flops(made: Prepared) -> float:
    """FLOP of language modelling before the runs: six for each parameter and token, logits over the vocabulary too."""
    tokens = int(made.data.train.tokens.lengths.sum())
    return 6.0 * made.config.pretrain.epochs * tokens * count_numbers(body_shapes(made.base.config))
