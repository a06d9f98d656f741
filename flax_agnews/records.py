"""What results.json says of runs, data, model and machine; its fields in one place."""

import os
import platform
from typing import Any

import jax

from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.encoded import Data
from flax_agnews.models.pretrained import Base
from flax_agnews.training.loop import Run
from flax_agnews.training.parallel import Devices
from flax_agnews.training.pretrain import Adaptation
from flax_agnews.training.program import Program


def run_record(program: Program, seed: int, run: Run, adaptation: Adaptation | None) -> dict[str, Any]:
    """A finished run; `cost` holds all that varies from machine to machine."""
    history, setup = run.history, program.setup
    return {
        "strategy": setup.strategy.name,
        "seed": seed,
        "test_accuracy": run.test.accuracy,
        "test_loss": run.test.loss,
        "test_macro_f1": run.test.macro_f1,
        "test_confusion": run.test.confusion,
        "train_accuracy": history.train_accuracy,
        "train_loss": history.train_loss,
        "val_accuracy": history.val_accuracy,
        "val_loss": history.val_loss,
        "val_macro_f1": history.val_macro_f1,
        "best_epoch": history.best_epoch,
        "skipped_updates": sum(history.skipped),
        "trainable_parameters": setup.trainable_parameters,
        "total_parameters": setup.total_parameters,
        "settings": dict(setup.strategy.settings),
        "cost": {
            "train_seconds": history.train_seconds,
            "compile_seconds": program.compile_seconds,
            "cache_seconds": program.cache_seconds,
            "pretrain_seconds": adaptation.seconds if adaptation else 0.0,
            "tokens_per_second": history.tokens / max(history.train_seconds, 1e-9),
            "peak_memory_bytes": history.peak_memory_bytes,
        },
    }


def data_record(data: Data, batches: TrainBatches) -> dict[str, Any]:
    """The data set, and how it fills the batches."""
    lengths = data.train.tokens.lengths
    return {
        "source": data.name,
        "classes": data.classes,
        "train": len(data.train),
        "validation": len(data.validation),
        "test": len(data.test),
        "tokens_per_text": float(lengths.mean()),
        "longest": int(lengths.max()),
        "truncated": data.truncated,
        "majority_accuracy": data.majority_accuracy,
        "padding_share": batches.waste,
        "hash": data.hash,
    }


def model_record(base: Base, dtype: str) -> dict[str, Any]:
    """The body that every run starts from."""
    return {
        "name": base.name,
        "layers": base.config.n_layer,
        "width": base.config.n_embd,
        "parameters": sum(value.size for value in base.parameters.values()),
        "dtype": dtype,
        "base": base.hash,
    }


def pretrain_record(adaptation: Adaptation | None, epochs: int) -> dict[str, Any] | None:
    """Language-model adaptation, where there was any: loss of each epoch in nats a token."""
    if adaptation is None:
        return None
    return {"epochs": epochs, "seconds": adaptation.seconds, "loss": adaptation.loss}


def environment(devices: Devices) -> dict[str, str]:
    """Versions and machine, for results.json."""
    first = devices.devices[0]
    return {
        "jax": jax.__version__,
        "python": platform.python_version(),
        "devices": f"{len(devices)} x {getattr(first, 'device_kind', first.platform)}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
