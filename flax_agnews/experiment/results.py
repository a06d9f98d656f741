"""What results.json says of runs, data, model and machine; its fields in one place."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import jax

from flax_agnews import __version__
from flax_agnews.config import Config
from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.encoded import Data
from flax_agnews.data.tokens import Tokenizer
from flax_agnews.models.pretrained import Base
from flax_agnews.runs.output_folder import by_name, config_dict
from flax_agnews.system.text import counted
from flax_agnews.training.adaptation import Adaptation
from flax_agnews.training.loop import TrainedRun
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Program
from flax_agnews.training.state import Setup


def run_record(
    program: Program, seed: int, run: TrainedRun, adaptation: Adaptation | None, config: Config
) -> dict[str, Any]:
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
        "planned_epochs": config.train.epochs,
        "stopped_early": len(history.val_accuracy) < config.train.epochs,
        "skipped_updates": sum(history.skipped),
        "trainable_parameters": setup.trainable_parameters,
        "total_parameters": setup.total_parameters,
        "settings": dict(setup.strategy.settings),
        **({} if setup.factor is None else {"rate_factor": setup.factor}),
        **({"custom": True} if setup.strategy.name in config.custom else {}),
        "cost": {
            "train_seconds": history.train_seconds,
            "compile_seconds": program.compile_seconds,
            "cache_seconds": program.cache_seconds,
            "pretrain_seconds": adaptation.seconds if adaptation else 0.0,
            "tokens_per_second": history.tokens / max(history.train_seconds, 1e-9),
            "peak_memory_bytes": history.peak_memory_bytes,
        },
    }


def header(
    config: Config,
    data: Data,
    batches: TrainBatches,
    base: Base,
    adaptation: Adaptation | None,
    devices: Devices,
) -> dict[str, Any]:
    """What stands above the runs."""
    return {
        "flax_agnews": __version__,
        "data": data_record(data, batches),
        "model": {**model_record(base, config.model.dtype), "start": config.model.start},
        "pretrain": pretrain_record(adaptation, config.pretrain.epochs),
        "environment": environment(devices),
        "settings": asdict(config.train),
    }


def weights_record(data: Data, tokenizer: Tokenizer, base: Base) -> dict[str, Any]:
    """What is kept with a run's best weights, for those who use them: class names, vocabulary, the body's sizes."""
    return {"classes": data.classes, "vocabulary": tokenizer.vocabulary, "body": asdict(base.config)}


def data_record(data: Data, batches: TrainBatches) -> dict[str, Any]:
    """The data set, and how it fills the batches."""
    lengths = data.train.tokens.lengths
    return {
        "source": data.name,
        "notes": list(data.notes),
        "classes": data.classes,
        "class_texts": data.class_texts.tolist(),
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
    return {"epochs": epochs, "loss": adaptation.loss}


def facts(
    config: Config, setups: Sequence[Setup], updates: Mapping[str, str], data: Data, base: Base
) -> dict[str, Any]:
    """What has to be the same in processes that train as one; `updates` is each strategy's, as a hash."""
    settings = {k: v for k, v in by_name(config_dict(config)).items() if not k.startswith("tracking.")}
    strategies = {f"strategy {setup.strategy.name}": setup.fingerprint for setup in setups}
    strategies |= {f"updates of {name}": what for name, what in updates.items()}
    versions = {"flax_agnews": __version__, "JAX": jax.__version__}
    return {**versions, **settings, **strategies, "texts": data.hash, "weights": base.hash}


def environment(devices: Devices) -> dict[str, str]:
    """Versions and machine, for results.json."""
    first, several = devices.devices[0], f" in {counted(devices.team.count, 'process')}" if devices.several else ""
    return {
        "jax": jax.__version__,
        "python": platform.python_version(),
        "devices": f"{len(devices)} x {getattr(first, 'device_kind', first.platform)}{several}",
        "machine": f"{platform.system()} {platform.machine()}, {counted(os.cpu_count() or 1, 'core')}",
    }
