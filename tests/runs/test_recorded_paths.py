"""A run can be used from any folder: recorded paths are absolute, and one place has one name."""

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from support.small_experiments import BODY, settings, small
from transformers import GPT2Config, GPT2ForTokenClassification, GPT2Model

from flax_agnews.cli import arguments
from flax_agnews.config import Config, DataConfig, ModelConfig
from flax_agnews.data.tokens import load_tokenizer, train_tokenizer
from flax_agnews.errors import UserError
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.experiment.preparation import keep_tokenizer
from flax_agnews.runs.output_folder import config_dict
from flax_agnews.runs.recorded_paths import recorded
from flax_agnews.system.display import Display
from flax_agnews.system.files import absolute
from flax_agnews.trained.classifier import Classifier
from flax_agnews.trained.exports import export_run

TEXTS = ["Oil prices climb after the summit", "The match ended in a draw", "", "Shares fell"]
HEAD, FULL = (Path("run") / name / "seed-42" for name in ("head", "full"))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a body and its tokenizer in `m/lm`, and runs that named it from there."""
    folder = tmp_path_factory.mktemp("begun")
    torch.manual_seed(0)
    GPT2Model(GPT2Config(**BODY, initializer_range=0.3)).save_pretrained(folder / "m" / "lm")
    train_tokenizer(TEXTS * 9, 300).save(folder / "m" / "lm")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(folder, "m/lm", "head,full")
    return folder


def run(folder: Path, name: str, strategies: str, output: str = "run") -> None:
    flags = ("--model.from_config", "null", "--model.name", name, "--strategy", strategies)
    request = arguments.parse(small(Path(output), *flags, "--train.runs", 1, "--train.epochs", 1))
    Experiment(request.config, request.entries).run()


@pytest.fixture
def moved(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, whose runs say where it was, and the process in another folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(begun, tmp_path / "moved"))


def answers(run: Path, **how: Any) -> np.ndarray:
    return Classifier.load(run, **how).predict(TEXTS).logits


def test_a_run_answers_from_another_folder(begun: Path, moved: Path) -> None:
    assert settings(begun / "run")["model"]["name"] == str(begun / "m" / "lm")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(begun)
        here = {name: answers(name) for name in (HEAD, FULL)}
    for name, logits in here.items():
        np.testing.assert_array_equal(answers(begun / name), logits)


@pytest.mark.parametrize("spelled", ["./m/lm", "m/../m/lm", "m//lm/", "{folder}/m/lm", "../link/m/lm"])
def test_one_body_has_many_spellings(begun: Path, spelled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(begun)
    if not (link := begun.parent / "link").exists():
        link.symlink_to(begun)
    run(begun, spelled.format(folder=begun), "head")  # finished: it is taken for the same
    assert settings(begun / "run")["model"]["name"] == os.path.abspath(spelled.format(folder=begun))


def test_another_body_is_another(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(begun)
    shutil.copytree("m", "n")
    with pytest.raises(UserError, match=r"belongs to another configuration: model\.name was .*lm, now .*n/lm\."):
        run(begun, "n/lm", "head")


def test_a_folder_made_before_with_a_relative_path(begun: Path, moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It works from where it worked, takes every spelling of the path there, and has it absolute afterwards."""
    old = settings(moved / "run")
    old["model"]["name"] = "m/lm"
    (moved / "run" / "config.yaml").write_text(yaml.safe_dump(old))
    shutil.rmtree(moved / "run" / "tokenizer")
    monkeypatch.chdir(moved)
    np.testing.assert_array_equal(answers(HEAD), answers(begun / HEAD))
    run(moved, "./m/lm", "head")
    assert settings(moved / "run")["model"]["name"] == str(moved / "m" / "lm")


def test_a_body_that_has_moved(begun: Path, moved: Path, tmp_path: Path) -> None:
    old = settings(moved / "run")
    old["model"]["name"] = str(tmp_path / "gone")
    (moved / "run" / "config.yaml").write_text(yaml.safe_dump(old))
    np.testing.assert_array_equal(answers(moved / FULL), answers(begun / FULL))
    with pytest.raises(UserError) as refusal:
        answers(moved / HEAD)
    told = f"its body or tokenizer can't be loaded: model.name {tmp_path / 'gone'}: no such directory. "
    assert told in refusal.value.with_flags
    assert refusal.value.with_flags.endswith("Give the same body: --model.name DIR (in Python: model=DIR)")
    found = answers(moved / HEAD, model="moved/m/lm")
    np.testing.assert_array_equal(found, answers(begun / HEAD))
    done = export_run(moved / HEAD, "hf", tmp_path / "exported", model=moved / "m" / "lm")
    assert done.difference < 1e-4

    torch.manual_seed(1)
    GPT2Model(GPT2Config(**BODY)).save_pretrained(tmp_path / "other")
    for given in ("head", "full"):
        with pytest.raises(UserError, match=r"was trained from other weights than .*/other has\. Give the same body"):
            answers(moved / "run" / given / "seed-42", model=tmp_path / "other")


def test_the_tokenizer_is_kept(begun: Path, tmp_path: Path) -> None:
    """A copy gives the same ids, whatever the original has beside its vocabulary."""
    made = tmp_path / "made"
    train_tokenizer(TEXTS * 9, 300).save(made)
    fields = {"add_prefix_space": True, "additional_special_tokens": ["<user>"], "eos_token": "<|endoftext|>"}
    (made / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer", **fields}))
    for original in (load_tokenizer(str(made)), load_tokenizer(str(begun / "m" / "lm"))):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        keep_tokenizer(Config(), original, tmp_path / "copy")
        copy = load_tokenizer(str(tmp_path / "copy"))
        assert (copy.vocabulary, copy.end_of_text) == (original.vocabulary, original.end_of_text)
        texts = [*TEXTS, "<user> hi <|endoftext|>", " spaces  and\nlines"]
        assert copy.encode(texts, 99).ids.tolist() == original.encode(texts, 99).ids.tolist()


def test_which_settings_are_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "gpt2").mkdir()
    there = str(tmp_path)
    for given, kept in (("gpt2", f"{there}/gpt2"), ("m", f"{there}/m"), ("distilgpt2", "distilgpt2"), ("a/b", "a/b")):
        found = recorded(config_dict(Config(model=ModelConfig(name=given, tokenizer=given, start=given))))["model"]
        assert (found["name"], found["tokenizer"], found["start"]) == (kept, kept, kept)
    for source, kept in (("ag.csv", f"{there}/ag.csv"), ("builtin", "builtin"), ("fancyzhx/ag_news",) * 2):
        assert recorded(config_dict(Config(data=DataConfig(source=source))))["data"]["source"] == kept
    configs = (("m", f"{there}/m"), ("c.json", f"{there}/c.json"), ("gpt2-xl", "gpt2-xl"), (dict(BODY), BODY))
    for from_config, kept in configs:
        found = recorded(config_dict(Config(model=ModelConfig(from_config=from_config))))
        assert found["model"]["from_config"] == kept
    assert recorded(config_dict(Config(output="~/x")))["output"] == str(Path.home() / "x")
    (tmp_path / "far" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "sub")
    assert absolute("link/../x") == f"{there}/far/x"  # as the system has it, not as it is written


def test_a_head_that_is_left_out_is_named(begun: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    GPT2ForTokenClassification(GPT2Config(**BODY)).save_pretrained(tmp_path / "tagger")
    train_tokenizer(TEXTS * 9, 300).save(tmp_path / "tagger")
    flags = ("--model.from_config", "null", "--model.name", tmp_path / "tagger", "--strategy", "head")
    request = arguments.parse(small(tmp_path / "out", *flags))
    shown = io.StringIO()
    with Experiment(request.config, request.entries, Display(Console(file=shown, width=400))) as experiment:
        experiment.prepare()
        [line] = [line for line in shown.getvalue().splitlines() if "/tagger: " in line]
    assert line.endswith("parameters; its head classifier is left out")
