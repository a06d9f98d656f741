"""What frozen lower layers make of the texts, computed once: for all epochs, seeds, strategies and later experiments.

A program whose strategy leaves the embeddings and the first layers as they are reads what comes out of them instead of
token ids (`Ragged.depth`). The numbers are those of computing it anew (contract 4), but for a bfloat16 cache.
"""

import copy
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from flax_agnews.config import Config
from flax_agnews.data.batches import EvalBatches, TrainBatches
from flax_agnews.data.encoded import Data, Split
from flax_agnews.errors import UserError, flag
from flax_agnews.models.parameters import Parameters
from flax_agnews.system.environment import cache_folder, unwritable
from flax_agnews.system.text import count, counted
from flax_agnews.training.array_cache import ArrayFolder, ArrayMemory, Arrays, NoRoom
from flax_agnews.training.frozen_layers import Trunk, compute
from flax_agnews.training.loop import Interrupted
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import plan_batches, plan_evaluation
from flax_agnews.training.state import Setup, frozen_depth


class Told:
    """What making a cache tells those who look on; the default is silence."""

    def note(self, text: str) -> None:
        """A line."""

    def begin(self, text: str) -> None:
        """A line, before what may take long."""

    def step(self, done: float, tokens_per_second: float) -> None:
        """After every batch; `done` from 0 to 1."""

    def finish(self) -> None:
        """After what may take long."""

    def should_stop(self) -> bool:
        """Whether to stop after this batch."""
        return False


@dataclass(frozen=True)
class Inputs:
    """What a strategy's program reads.

    Attributes:
        batches: that train.
        evaluated: validation and test.
        depth: layers that the texts have been through; 0 where nothing is cached.
        seconds: that the cache took.
        by_stage: batches that train in each stage; through more layers, where that pays.
    """

    batches: TrainBatches
    evaluated: Mapping[str, EvalBatches]
    depth: int = 0
    seconds: float = 0.0
    by_stage: Sequence[TrainBatches] = ()


class Activations:
    """The caches of an experiment's texts.

    Args:
        config: all settings.
        data: the texts.
        devices: that share every batch.
    """

    def __init__(self, config: Config, data: Data, devices: Devices) -> None:
        self.train, self.noisy, self.devices = config.train, config.model.dropout_frozen, devices
        self.splits = {"train": data.train, "validation": data.validation, "test": data.test}
        self.dtype = np.dtype(jnp.dtype(config.train.cache_dtype))
        self._arrays: Arrays | None = None
        self._reads: list[str] = []  # keys of what the program at hand reads: they stay, whatever else needs room

    def check(self, setups: Sequence[Setup]) -> None:
        """Before anything is computed: `UserError` where `train.cache_frozen` is `on`, and it can't be."""
        if self.train.cache_frozen != "on":
            return
        if self.devices.several:
            raise UserError(f"{flag('train.cache_frozen')} on: is for one process; choose auto or off for several")
        for setup in (stage for whole in setups for stage in (whole, *whole.stages)):
            rates, depth = setup.rates, frozen_depth(setup)
            if self.noisy and max(rates.embd, rates.attn, rates.resid) > 0:
                raise UserError(
                    f"{flag('train.cache_frozen')} on: with {flag('model.dropout_frozen')}, frozen layers give "
                    f"something else at every step. Choose one of the two, or {flag('model.dropout')} 0"
                )
            size = self._bytes(Trunk(setup.base, depth, setup.dtype, setup.attention), self.splits) if depth else 0
            if size > self.train.cache_gigabytes * 1e9:
                raise self._refused(setup, NoRoom(f"{count(size)}B are above {flag('train.cache_gigabytes')}"))

    def inputs(self, setup: Setup, shared: Parameters, batches: TrainBatches, told: Told | None = None) -> Inputs:
        """What a strategy's program reads, cached where it can be and should be.

        Args:
            setup: the strategy on the model.
            shared: the body's weights on the devices.
            batches: of the token ids.
            told: for displays and interruption.

        Raises:
            UserError: `train.cache_frozen` is `on`, and there is no room.
            Interrupted: `told` asked to stop.
        """
        started, told = time.perf_counter(), told or Told()
        self._reads = []
        depth, splits = self._through(setup, shared, self.splits, told)
        whole = self._trained(batches, splits["train"])
        by_stage, train = [whole] * len(setup.stages), {"train": self.splits["train"]}
        # What is cached decides the last digits: so it doesn't depend on how many epochs, and stages, a run comes to.
        ends = [*(stage.epoch for stage in setup.strategy.stages[1:]), math.inf]
        for number, span in enumerate(setup.spans):
            # The pass that fills the cache costs what the cache saves in one epoch of one run.
            if (ends[number] - span.first) * self.train.runs > 1 or self.train.cache_frozen == "on":
                deeper, texts = self._through(setup.stages[number], shared, train, told, above=depth)
                by_stage[number] = self._trained(batches, texts["train"]) if deeper else whole
        seconds = time.perf_counter() - started if self._reads else 0.0
        return Inputs(whole, self._evaluated(splits), depth, seconds, by_stage)

    def _through(
        self, setup: Setup, shared: Parameters, splits: Mapping[str, Split], told: Told, above: int = 0
    ) -> tuple[int, Mapping[str, Split]]:
        """How many frozen layers are computed once, and the splits after them; where more than `above` can be."""
        # processes could differ in what they have or have room for, and would wait for each other for ever
        never = self.train.cache_frozen == "off" or self.devices.several
        depth = 0 if never else frozen_depth(setup, shared)
        if depth > above:
            trunk = Trunk(setup.base, depth, setup.dtype, setup.attention)
            try:
                return depth, self._cached(trunk, shared, splits, told)
            except NoRoom as reason:
                if self.train.cache_frozen == "on":
                    raise self._refused(setup, reason) from None
                told.note(
                    f"{setup.strategy.name}: frozen layers are computed in every epoch, not cached: {reason.with_flags}"
                )
        return 0, splits

    def _refused(self, setup: Setup, reason: NoRoom) -> UserError:
        return UserError(
            f"{flag('train.cache_frozen')} on: strategy {setup.strategy.name}: {reason.message}. "
            f"Raise {flag('train.cache_gigabytes')}, or choose {flag('train.cache_dtype')} bfloat16, or auto"
        )

    def _evaluated(self, splits: Mapping[str, Split]) -> dict[str, EvalBatches]:
        return {name: plan_evaluation(splits[name], self.train, self.devices) for name in ("validation", "test")}

    def _trained(self, batches: TrainBatches, split: Split) -> TrainBatches:
        """Batches of the same texts of other content; planned anew where that has other lengths."""
        if split.tokens is batches.data:
            return batches
        if np.array_equal(split.tokens.lengths, batches.data.lengths):
            other = copy.copy(batches)
            other.data = split.tokens
            return other
        return plan_batches(split, self.train, [seed for group in batches.groups for seed in group], self.devices)

    def _cached(self, trunk: Trunk, shared: Parameters, splits: Mapping[str, Split], told: Told) -> dict[str, Split]:
        """The splits as the layers above the trunk read them, from where they are kept or computed now."""
        arrays = self._place(told)
        keys = {name: trunk.key(split.tokens, self.dtype) for name, split in splits.items()}
        opened = {n: arrays.open(keys[n], trunk.shape(s.tokens), self.dtype) for n, s in splits.items()}
        found = {name: array for name, array in opened.items() if array is not None}
        missing = {name: split for name, split in splits.items() if name not in found}
        if missing:
            size = self._bytes(trunk, missing)
            arrays.make_room([*self._reads, *keys.values()], size)
            with ExitStack() as kept:
                for name, split in missing.items():
                    create = arrays.create(keys[name], trunk.shape(split.tokens), self.dtype)
                    found[name] = kept.enter_context(create)
                layers = f"{trunk.depth} of {counted(trunk.base.config.n_layer, 'layer')}"
                told.begin(f"caching the lower {layers}: {count(size)}B in {arrays.place}")
                self._fill(trunk, shared, missing, found, told)
            told.finish()
        self._reads += keys.values()
        return {n: Split(trunk.through(s.tokens, found[n]), s.labels) for n, s in splits.items()}

    def _fill(
        self, trunk: Trunk, shared: Parameters, splits: Mapping[str, Split], out: Mapping[str, Any], told: Told
    ) -> None:
        """Computes a trunk's output for these splits."""
        total, done, started = sum(len(split.tokens.ids) for split in splits.values()), 0, time.perf_counter()

        def after(tokens: int) -> None:
            nonlocal done
            done += tokens
            told.step(done / total, done / (time.perf_counter() - started))
            if told.should_stop():
                raise Interrupted(0)

        for name, split in splits.items():
            batches = plan_evaluation(split, self.train, self.devices)
            compute(trunk, trunk.weights(shared), batches, self.devices, out[name], after)

    def _bytes(self, trunk: Trunk, splits: Mapping[str, Split]) -> int:
        return sum(int(np.prod(trunk.shape(split.tokens))) * self.dtype.itemsize for split in splits.values())

    def _place(self, told: Told) -> Arrays:
        """Where caches are kept: the same for all strategies."""
        if self._arrays is None:
            limit, folder = int(self.train.cache_gigabytes * 1e9), cache_folder() / "activations"
            self._arrays = ArrayMemory(limit)
            if self.train.cache_place == "file":
                try:
                    self._arrays = ArrayFolder(folder, limit, told.note)
                except OSError as error:
                    if unwritable(cache_folder()) is None:  # otherwise it is told for all caches together
                        told.note(f"{folder} can't be written ({error.strerror}): frozen layers are cached in memory")
        return self._arrays
