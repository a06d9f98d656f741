"""Measures the cost of saving checkpoints while GPT-2 124M trains with `full`: the copy, and slower updates."""

import time
from functools import partial
from pathlib import Path
from statistics import fmean, median

import jax
import numpy as np

from benchmarks.support.training_steps import TrialSteps
from benchmarks.support.trial import Trial
from benchmarks.support.workers import Built, Sample
from flax_agnews.training.checkpoint import Store, snapshot
from flax_agnews.training.history import History
from flax_agnews.training.lane import Lane
from flax_agnews.training.saving import Saving


def build(data: str, tokenizer: str, repeats: int, saves: int, folder: str) -> Built:
    """Trains with `saves` checkpoints, and updates without saving between them; returns facts, and no contenders."""
    trial = Trial("full", data=data, tokenizer=tokenizer)
    steps, saving = TrialSteps(trial, folder), Saving(note=partial(print, flush=True))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(steps.state))
    store = Store(Path(folder) / "checkpoints")
    lane = Lane(steps.seeds[0], store)
    lane.begin(History(), steps.batches.steps_per_epoch, steps.setup.model.classes)
    steps.warm_up(repeats)
    saving.begin(size)
    usual = [steps.measure(repeat) for repeat in range(repeats)]
    waited, written, meanwhile, reckoned = [], [], list[Sample](), []
    for _ in range(saves):
        lane.history.best_epoch += 1  # its best weights are saved as well
        lane.keep_best(steps.state.params, np.empty(0))  # there are no validation texts
        started = time.perf_counter()
        saving.save("a state", lambda: lane.writing(store, snapshot(steps.state)))
        waited.append(time.perf_counter() - started)
        while not saving.idle:
            meanwhile.append(steps.measure(len(meanwhile)))
        written.append(saving.cost - waited[-1])
        reckoned.append(saving.cost)
        usual += [steps.measure(repeat) for repeat in range(repeats)]
    rate = median(sample.seconds / sample.tokens for sample in usual)
    slowed = sum(sample.seconds - sample.tokens * rate for sample in meanwhile) / saves
    cost = fmean(waited) + slowed
    facts = {
        "bytes": size,
        "texts": trial.batch_size,
        "saves": saves,
        "waited": fmean(waited),
        "written": fmean(written),
        "step": median(sample.seconds for sample in usual),
        "slowed": slowed,
        "reckoned": fmean(reckoned),
        "interval": fmean(reckoned) / saving.share,
        "share": cost / (fmean(reckoned) / saving.share),
    }
    device = steps.program.devices.devices[0]
    return Built({}, {"cost": facts, "on": {"backend": jax.default_backend(), "device": device.device_kind}})
