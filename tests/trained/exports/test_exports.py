"""Exports: strategies that can't be merged, damaged files and full folders are refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.exported_runs import Made, content_of, export_refusal

from flax_agnews import export, export_run
from flax_agnews.trained import exports
from flax_agnews.trained.export_formats import FORMATS
from flax_agnews.trained.exports import TARGETS
from flax_agnews.trained.loading import LoadedRun


def test_the_command_lists_every_format():
    assert list(FORMATS) == list(TARGETS)


# --- the same answers


# --- FlaxGPT2


# --- what doesn't go


@pytest.mark.parametrize("to", ["hf", "flaxgpt2"])
@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        ("prompt", "the 4 positions before every text can't be merged into a GPT-2"),
        ("prefix", "the 20 positions before every text can't be merged into a GPT-2"),
        ("adapter", "a bottleneck adapter isn't linear and can't be merged into the body"),
    ],
)
def test_what_cannot_be_merged(runs: dict[str, Path], tmp_path: Path, strategy: str, reason: str, to: str) -> None:
    message = export_refusal(runs[strategy], tmp_path / "out", to)
    assert message.startswith(f"{runs[strategy]}: can't be exported --to {to}: {reason}")


def test_a_format_that_can_is_named(full: Made, runs: dict[str, Path], tmp_path: Path) -> None:
    assert export_refusal(runs["prompt"], tmp_path / "out").endswith("; what can be done: --to peft")
    message = export_refusal(full.run, tmp_path / "out", "peft")
    assert "PEFT has no such method as strategy full; what can be done: --to hf or --to flaxgpt2" in message


# --- PEFT


def _one_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.h.0.mlp.c_fc.weight"][0] += 0.01
    save_file(tensors, folder / "model.safetensors")


def _other_head(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["score.weight"] = tensors["score.weight"][::-1].copy()
    save_file(tensors, folder / "model.safetensors")


def _not_a_number(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.wpe.weight"][-1, 0] = np.nan
    tensors["transformer.ln_f.bias"][0] = np.nan
    save_file(tensors, folder / "model.safetensors")


def _half_a_file(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _other_ids(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["o"], vocabulary["e"] = vocabulary["e"], vocabulary["o"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def _special_tokens(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "split_special_tokens": False}))


def _fewer_heads(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "n_head": 1}))


@pytest.mark.parametrize(
    ("damage", "tells"),
    [
        (_one_weight, "its logits differ by"),
        (_other_head, "its logits differ by"),
        (_not_a_number, "its logits differ by nan"),
        (_fewer_heads, "its logits differ by"),
        (_half_a_file, "truncated or damaged"),
        (_other_ids, "other ids"),
        (_special_tokens, "other ids"),
    ],
)
def test_a_damaged_export_is_noticed(
    full: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None], tells: str
) -> None:
    def write(parts: LoadedRun, folder: Path) -> None:
        exports.hf.write(parts, folder)
        damage(folder)

    monkeypatch.setitem(TARGETS, "hf", replace(TARGETS["hf"], write=write))
    assert tells in export_refusal(full.run, tmp_path / "out")


def test_a_folder_that_holds_something(full: Made, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    shutil.copytree(full.folder, taken)
    (taken / "old.txt").write_text("of an earlier one")
    assert export_refusal(full.run, taken) == f"{taken}: is not empty; choose another folder, or --overwrite"
    export_run(full.run, "hf", taken, overwrite=True)
    assert content_of(taken).keys() == {taken / path.name for path in full.folder.iterdir()}
    (taken / "sub").mkdir()
    assert "holds other things than an export" in export_refusal(full.run, taken, overwrite=True)
    (tmp_path / "file").write_text("")
    assert export_refusal(full.run, tmp_path / "file").endswith("is a file; an export is a folder")
    assert export_refusal(full.run, tmp_path / "out", "hff") == "--to hff: no such format. Did you mean hf?"


def test_mistakes_of_the_command_are_one_line(full: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, tells in (
        (("--to", "onnx"), "invalid choice: 'onnx'"),
        (("--to", "hf", "--private"), "--private goes with --upload"),
        (("--to", "hf", "--upload", "alone"), "must be OWNER/NAME"),
        (("--to", "hf", "--upload", "a/b/c"), "no OWNER/NAME"),
    ):
        assert export.main([str(full.run), str(tmp_path / "out"), *flags]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert tells in line
    assert not (tmp_path / "out").exists()


# --- the card
