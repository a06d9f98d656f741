"""To Hugging Face: what `GPT2ForSequenceClassification.from_pretrained` and `pipeline("text-classification")` load."""

from pathlib import Path

from safetensors.numpy import load_file

from flax_agnews.models.weights import hub_key, write_tensors
from flax_agnews.trained.exports.card import write_card
from flax_agnews.trained.exports.plain import HEAD, notes, read_plain, why_not, write_plain
from flax_agnews.trained.exports.target import Logits, Target
from flax_agnews.trained.loading import Parts

_FILE, _SCORE = "model.safetensors", "score.weight"

_USE = """\
from transformers import pipeline

classify = pipeline("text-classification", "DIR", truncation=True)
classify({example}, batch_size=8)
"""


def write(parts: Parts, folder: Path) -> None:
    """Body and head in one file, under GPT2ForSequenceClassification's names."""
    found = write_plain(parts, folder, "GPT2ForSequenceClassification")
    head = found.pop(HEAD)
    body = {f"transformer.{hub_key(path)}": value for path, value in found.items()}
    write_tensors(folder / _FILE, {**body, _SCORE: head.T})
    example = '[{"text": "First.", "text_pair": "Second."}]' if parts.paired else '["A text.", "Another one."]'
    write_card(parts, folder, _USE.replace("{example}", example), notes(parts))


def read(folder: Path, parts: Parts) -> Logits:
    """What the files compute."""
    return read_plain(folder, parts, lambda: load_file(folder / _FILE)[_SCORE].T)


HF = Target("GPT2ForSequenceClassification and pipelines of transformers", why_not, write, read)
