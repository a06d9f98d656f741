"""Caches the output of frozen lower layers for all epochs, seeds, strategies and later experiments.

A strategy that leaves the embeddings and the first layers unchanged trains on their cached output instead of token ids
(`Ragged.depth`). Results are the same as without the cache, unless it stores bfloat16.
"""

import copy
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import jax.numpy as jnp
import numpy as np

from flax_agnews.config import Config
from flax_agnews.data.batches import EvalBatches, TrainBatches
from flax_agnews.data.encoded import Data, Split
from flax_agnews.errors import UserError, flag
from flax_agnews.models.parameters import Parameters
from flax_agnews.system.caches import folder_of
from flax_agnews.system.environment import cache_folder, unwritable
from flax_agnews.system.text import count, counted
from flax_agnews.training.array_cache import ArrayFolder, ArrayMemory, Arrays, NoRoom
from flax_agnews.training.batch_plans import plan_batches, plan_evaluation
from flax_agnews.training.frozen_layers import Trunk, compute, frozen_depth
from flax_agnews.training.observer import Interrupted, Observer
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Inputs
from flax_agnews.training.shape_prices import Prices, counted_epochs
from flax_agnews.training.state import Setup


class Activations:
    """Plans the batches that strategies read, and caches the output of their frozen layers.

    Args:
        config: all settings.
        data: the experiment's texts.
        devices: the devices that share every batch.
        prices: what batch shapes cost, for `train.shapes: auto`.
    """

    def __init__(self, config: Config, data: Data, devices: Devices, prices: Prices | None = None) -> None:
        self.prices = prices
        self.train, self.noisy, self.devices = config.train, config.model.dropout_frozen, devices
        self.splits = {"train": data.train, "validation": data.validation, "test": data.test}
        self.dtype = np.dtype(jnp.dtype(config.train.cache_dtype))
        self._arrays: Arrays | None = None
        self._missing: dict[str, tuple[Trunk, Split]] | None = None  # only in a plan
        self._reads: list[str] = []  # keys that the current program reads, and that must not be removed

    def check(self, setups: Sequence[Setup]) -> None:
        """Raises a `UserError`, before anything is computed, if `train.cache_frozen` is `on` but can't be done."""
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
            size = self._bytes(Trunk.of(setup.model, depth), self.splits) if depth else 0
            if size > self.train.cache_gigabytes * 1e9:
                raise self._refused(setup, NoRoom(f"{count(size)}B are above {flag('train.cache_gigabytes')}"))

    def computes(self, setup: Setup, shared: Parameters) -> bool:
        """Whether `inputs` may have to compute the output of frozen layers, which takes time.

        Args:
            setup, shared: as in `inputs`.
        """
        whole = (setup, *(setup.stages if setup.spans else ()))
        return not self._never and any(frozen_depth(each, shared) for each in whole)

    def inputs(
        self, setup: Setup, shared: Parameters, batches: TrainBatches, observer: Observer | None = None
    ) -> Inputs:
        """The batches that a strategy's program reads: of cached output where that is possible and saves time.

        Args:
            setup: the adapted model and how it trains.
            shared: the body's weights on the devices.
            batches: training batches of token ids.
            observer: receives progress, and may interrupt.

        Raises:
            UserError: `train.cache_frozen` is `on`, and there is no room.
            Interrupted: `observer` asked to stop.
        """
        started, observer = time.perf_counter(), observer or Observer()
        self._reads = []
        depth, splits = self._through(setup, shared, self.splits, observer)
        whole = self._trained(batches, splits["train"])
        by_stage, train = [whole] * len(setup.stages), {"train": self.splits["train"]}
        # Caching changes the last digits, so it must not depend on how many epochs, and stages, a run reaches.
        ends = [*(stage.epoch for stage in setup.model.strategy.stages[1:]), math.inf]
        for number, span in enumerate(setup.spans):
            # Filling the cache costs as much as it saves in one epoch of one run.
            if (ends[number] - span.first) * self.train.runs > 1 or self.train.cache_frozen == "on":
                deeper, texts = self._through(setup.stages[number], shared, train, observer, above=depth)
                by_stage[number] = self._trained(batches, texts["train"]) if deeper else whole
        seconds = time.perf_counter() - started if self._reads else 0.0
        return Inputs(whole, self._evaluated(splits), by_stage, self.splits["train"].tokens.lengths, seconds)

    def planned(
        self, setup: Setup, shared: Parameters, batches: TrainBatches
    ) -> tuple[Inputs, Mapping[str, tuple[Trunk, Split]]]:
        """As `inputs`, but nothing is computed or written: what isn't cached yet is zeros.

        Returns:
            The batches; and what isn't cached yet: key -> the frozen layers, and the texts.
        """
        other = copy.copy(self)
        other._missing = {}
        return other.inputs(setup, shared, batches), other._missing

    def filling_seconds(self, trunk: Trunk, shared: Parameters, split: Split) -> float:
        """Seconds that it takes to compute frozen layers' output for texts, from two batches of each shape.

        Args:
            trunk: the frozen layers.
            shared: the body's weights on the devices.
            split: the texts.
        """
        batches, total = plan_evaluation(split, self.train, self.devices, self.prices), 0.0
        out, chosen = np.empty(trunk.shape(split.tokens), self.dtype), batches.chosen
        for shape, number in Counter(chosen).items():
            few = [n for n, other in enumerate(chosen) if other == shape][:2]
            for _ in range(2):  # the second time, the program is read from the cache of compiled programs, as later
                stamps = [time.perf_counter()]
                compute(
                    trunk,
                    trunk.weights(shared),
                    batches.only(few),
                    self.devices,
                    out,
                    lambda _, at=stamps: at.append(time.perf_counter()),  # type: ignore[misc]
                )
            total += stamps[-1] - stamps[0] + (number - len(few)) * (stamps[-1] - stamps[-2])
        return total

    @property
    def _never(self) -> bool:
        """Whether nothing is cached: several processes might differ in what they have room for, and would deadlock."""
        return self.train.cache_frozen == "off" or self.devices.several

    def _through(
        self, setup: Setup, shared: Parameters, splits: Mapping[str, Split], observer: Observer, above: int = 0
    ) -> tuple[int, Mapping[str, Split]]:
        """Number of cached layers, and the splits as the next layer reads them; 0 if not more than `above`."""
        depth = 0 if self._never else frozen_depth(setup, shared)
        if depth > above:
            trunk = Trunk.of(setup.model, depth)
            try:
                return depth, self._cached(trunk, shared, splits, observer)
            except NoRoom as reason:
                if self.train.cache_frozen == "on":
                    raise self._refused(setup, reason) from None
                observer.note(
                    f"{setup.name}: frozen layers are computed in every epoch, not cached: {reason.with_flags}"
                )
        return 0, splits

    def _refused(self, setup: Setup, reason: NoRoom) -> UserError:
        return UserError(
            f"{flag('train.cache_frozen')} on: strategy {setup.name}: {reason.message}. "
            f"Raise {flag('train.cache_gigabytes')}, or choose {flag('train.cache_dtype')} bfloat16, or auto"
        )

    def _evaluated(self, splits: Mapping[str, Split]) -> dict[str, EvalBatches]:
        passes = {"validation": self.train.runs * counted_epochs(self.train), "test": self.train.runs}
        return {n: plan_evaluation(splits[n], self.train, self.devices, self.prices, passes[n]) for n in passes}

    def _trained(self, batches: TrainBatches, split: Split) -> TrainBatches:
        """The same batches of cached output; planned anew where its lengths differ (pooled: one row per text)."""
        if split.tokens is batches.data:
            return batches
        if np.array_equal(split.tokens.lengths, batches.data.lengths):
            other = copy.copy(batches)
            other.data = split.tokens
            return other
        seeds = [seed for group in batches.groups for seed in group]
        return plan_batches(split, self.train, seeds, self.devices, self.prices)

    def _cached(
        self, trunk: Trunk, shared: Parameters, splits: Mapping[str, Split], observer: Observer
    ) -> dict[str, Split]:
        """The splits as the layers above the trunk read them, from the cache or computed now."""
        arrays = self._place(observer)
        keys = {name: trunk.key(split.tokens, self.dtype) for name, split in splits.items()}
        opened = {n: arrays.open(keys[n], trunk.shape(s.tokens), self.dtype) for n, s in splits.items()}
        found = {name: array for name, array in opened.items() if array is not None}
        missing = {name: split for name, split in splits.items() if name not in found}
        if missing and self._missing is not None:
            if (size := self._bytes(trunk, missing)) > self.train.cache_gigabytes * 1e9:
                raise NoRoom(f"{count(size)}B are above {flag('train.cache_gigabytes')}")
            self._missing |= {keys[name]: (trunk, split) for name, split in missing.items()}
            found |= {n: np.broadcast_to(self.dtype.type(0), trunk.shape(s.tokens)) for n, s in missing.items()}
        elif missing:
            size = self._bytes(trunk, missing)
            arrays.make_room([*self._reads, *keys.values()], size)
            with ExitStack() as kept:
                for name, split in missing.items():
                    create = arrays.create(keys[name], trunk.shape(split.tokens), self.dtype)
                    found[name] = kept.enter_context(create)
                layers = f"{trunk.depth} of {counted(trunk.base.config.n_layer, 'layer')}"
                observer.caching(f"caching the lower {layers}: {count(size)}B in {arrays.place}")
                self._fill(trunk, shared, missing, found, observer)
            observer.cached()
        self._reads += keys.values()
        return {n: Split(trunk.through(s.tokens, found[n]), s.labels) for n, s in splits.items()}

    def _fill(
        self, trunk: Trunk, shared: Parameters, splits: Mapping[str, Split], out: Mapping[str, Any], observer: Observer
    ) -> None:
        """Computes the frozen layers' output for these splits."""
        total, done, started = sum(len(split.tokens.ids) for split in splits.values()), 0, time.perf_counter()

        def after(tokens: int) -> None:
            nonlocal done
            done += tokens
            observer.step(done / total, done / (time.perf_counter() - started))
            if observer.should_stop():
                raise Interrupted(0)

        for name, split in splits.items():
            batches = plan_evaluation(split, self.train, self.devices, self.prices)
            compute(trunk, trunk.weights(shared), batches, self.devices, out[name], after)

    def _bytes(self, trunk: Trunk, splits: Mapping[str, Split]) -> int:
        return sum(int(np.prod(trunk.shape(split.tokens))) * self.dtype.itemsize for split in splits.values())

    def _place(self, observer: Observer) -> Arrays:
        """The cache's storage, in files or in memory, which all strategies share."""
        if self._arrays is None:
            limit, folder = int(self.train.cache_gigabytes * 1e9), folder_of("activations")
            self._arrays = ArrayMemory(limit)
            if self.train.cache_place == "file":
                try:
                    self._arrays = ArrayFolder(folder, limit, observer.note)
                except OSError as error:
                    if unwritable(cache_folder()) is None:  # otherwise reported for all caches together
                        observer.note(
                            f"{folder} can't be written ({error.strerror}): frozen layers are cached in memory"
                        )
        return self._arrays
