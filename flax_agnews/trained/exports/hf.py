"""Exports to `transformers`: files for `GPT2ForSequenceClassification` and `pipeline("text-classification")`."""

from pathlib import Path

from safetensors.numpy import load_file

from flax_agnews.models.weights import hub_key, write_tensors
from flax_agnews.trained.exports.card import write_card
from flax_agnews.trained.exports.plain import HEAD, notes, read_plain, why_not, write_plain
from flax_agnews.trained.exports.target import Logits, Target
from flax_agnews.trained.loading import LoadedRun

_FILE, _SCORE = "model.safetensors", "score.weight"

_USE = """\
from transformers import pipeline

classify = pipeline("text-classification", "DIR", truncation=True)
classify({example}, batch_size=8)
"""


def write(run: LoadedRun, folder: Path) -> None:
    """Writes body and head into one file, under GPT2ForSequenceClassification's names."""
    found = write_plain(run, folder, "GPT2ForSequenceClassification")
    head = found.pop(HEAD)
    body = {f"transformer.{hub_key(path)}": value for path, value in found.items()}
    write_tensors(folder / _FILE, {**body, _SCORE: head.T})
    example = '[{"text": "First.", "text_pair": "Second."}]' if run.paired else '["A text.", "Another one."]'
    write_card(run, folder, _USE.replace("{example}", example), notes(run))


def read(folder: Path, run: LoadedRun) -> Logits:
    """Reads the export back; returns a function that computes its logits."""
    return read_plain(folder, run, lambda: load_file(folder / _FILE)[_SCORE].T)


HF = Target(why_not, write, read)
