"""Exports to PEFT: a folder that `PeftModel.from_pretrained` loads on a GPT2ForSequenceClassification of the body."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from flax_agnews.errors import UserError
from flax_agnews.models.pretrained import Base, fetch_file
from flax_agnews.models.weights import write_tensors
from flax_agnews.strategies import Strategy
from flax_agnews.system.files import write_json
from flax_agnews.system.model_names import BUILTIN
from flax_agnews.trained.exports.card import write_card
from flax_agnews.trained.exports.target import Logits, Target
from flax_agnews.trained.loading import LoadedRun
from flax_agnews.training.inference import Inference
from flax_agnews.training.start_values import read_adapter

_USE = """\
import torch
from peft import PeftModel
from transformers import AutoTokenizer, GPT2ForSequenceClassification

tokenizer = AutoTokenizer.from_pretrained("BODY")
body = GPT2ForSequenceClassification.from_pretrained("BODY", num_labels={classes})
model = PeftModel.from_pretrained(body, "DIR").eval()
texts = tokenizer(["A text."], truncation=True, max_length={most}, split_special_tokens={split})
ids = torch.tensor(texts["input_ids"])
logits = model(input_ids=ids).logits
"""


def why_not(run: LoadedRun) -> str | None:
    """Why the run can't be exported, in a few words; None where it can, since PEFT has the strategy's method."""
    return None if run.model.strategy.peft else _lacking(run.model.strategy)


def _lacking(strategy: Strategy) -> str:
    return f"PEFT has no such method as strategy {strategy.name}"


def write(run: LoadedRun, folder: Path) -> None:
    """Writes the adapter's two files, and the model card."""
    write_adapter(folder, run.model.strategy, run.model.base, run.params, run.classes)
    split = run.tokenizer.special_tokens == "text"
    use = _USE.format(classes=len(run.classes), most=run.max_length, split=split)
    write_card(run, folder, use, _notes(run), library="peft")


def write_adapter(
    folder: Path, strategy: Strategy, base: Base, trained: Mapping[str, Any], classes: Sequence[str]
) -> None:
    """Writes adapter_config.json and adapter_model.safetensors, whose header names body and classes.

    Args:
        folder: folder for the files, which exists.
        strategy: the strategy that trained the adapter.
        base: the body that the adapter was trained on.
        trained: path -> array of every trained leaf.
        classes: names of the classes, in the order of the logits.

    Raises:
        UserError: PEFT has no such method, or the files can't be written.
    """
    if strategy.peft is None:
        raise UserError(_lacking(strategy))
    about = {
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": base.name,
        "inference_mode": True,
        "modules_to_save": ["score"],
    }
    write_json(folder / "adapter_config.json", {**about, **strategy.peft.fields})
    header = {"base_sha256": base.hash, "classes": json.dumps(list(classes))}
    write_tensors(folder / "adapter_model.safetensors", strategy.peft.tensors(trained), header)


def _notes(run: LoadedRun) -> list[str]:
    """Sentences for the model card about using the adapter."""
    peft, end = run.model.strategy.peft, run.tokenizer.end_of_text
    assert peft is not None
    own = run.model.base.name == BUILTIN
    where = "It is the folder `flax_agnews/models/builtin` of the package flax_agnews."
    pair = f"**Pairs**: the ids of the first text, {end} (end-of-text), the ids of the second one."
    return [
        "`BODY` is the body that the run was trained from, which is not in here; its parameters' SHA-256 is in the "
        f"header of adapter_model.safetensors.{f' {where}' if own else ''}",
        f"**Classes**, in the order of the logits: {json.dumps(run.classes, ensure_ascii=False)}.",
        f"**Batches.** {peft.padded}",
        *([pair] if run.paired else []),
        f"**An empty text** was end-of-text alone in training: `input_ids` [[{end}]].",
    ]


def read(folder: Path, run: LoadedRun) -> Logits:
    """Reads the adapter back; returns a function that computes its logits on the run's body."""
    found = read_adapter(run.model, run.trained_shapes, partial(fetch_file, str(folder)), run.classes, str(folder))
    return Inference(run.model, {path: jnp.asarray(value) for path, value in found.items()}, run.frozen).logits


PEFT = Target(why_not, write, read)
