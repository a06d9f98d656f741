"""Runs of several strategies, exported to Hugging Face; and refusals to export."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from flax_agnews import UserError, export_run
from flax_agnews.config import DataConfig
from flax_agnews.data.sources import load_corpus

TEXTS = load_corpus(DataConfig(source="builtin", limit_train=2)).test.texts[:12]


ODD = ["a", "<|endoftext|>", "ends in <|endoftext|>", "<|pad|>", "Ünïcödé ☃ 🎉", "two\nlines", " ".join(TEXTS[:5])]


MERGED = ("full", "lora", "ia3")


STEEP = {"lora": {"targets": "c_attn,c_fc,c_proj", "learning_rate": 0.03}, "ia3": {"learning_rate": 0.1}}


class Made(NamedTuple):
    run: Path
    folder: Path


def export_refusal(run: Path, folder: Path, to: str = "hf", **how: Any) -> str:
    """The one line; whatever was in the folder's own folder is as it was."""
    before = content_of(folder.parent)
    with pytest.raises(UserError) as error:
        export_run(run, to, folder, **how)
    assert content_of(folder.parent) == before
    assert "\n" not in str(error.value)
    return error.value.with_flags


def content_of(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    _, head, text = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    return yaml.safe_load(head), text
