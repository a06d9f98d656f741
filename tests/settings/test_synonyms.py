"""Hints for settings of other programs: each key is one of theirs, and each named setting is one of ours."""

import dataclasses
import re
from pathlib import Path

import peft
import pytest
import transformers

from flax_agnews.cli import arguments
from flax_agnews.errors import UserError
from flax_agnews.main import main
from flax_agnews.settings.synonyms import HINTS, hint

# Of TrainingArguments up to transformers 4.57, not of 5 any more
# (https://github.com/huggingface/transformers/blob/v4.57.0/src/transformers/training_args.py); people still write them.
EARLIER = {"warmup_ratio", "evaluation_strategy", "group_by_length", "overwrite_output_dir", "no_cuda", "logging_dir"}


def _theirs() -> set[str]:
    """Fields of the real classes."""
    kinds = [
        kind for name in dir(peft) if name.endswith("Config") and dataclasses.is_dataclass(kind := getattr(peft, name))
    ]
    return {field.name for kind in (transformers.TrainingArguments, *kinds) for field in dataclasses.fields(kind)}


def test_every_key_is_a_setting_of_transformers_or_peft() -> None:
    theirs = _theirs()
    assert {"num_train_epochs", "lora_alpha", "num_virtual_tokens", "prefix_projection"} <= theirs
    assert set(HINTS) - theirs == EARLIER


@pytest.mark.parametrize("name", HINTS)
def test_every_setting_that_is_named_is_one_of_ours(name: str) -> None:
    assert set(re.findall(r"\{(.*?)\}", HINTS[name])) <= arguments._known_settings()
    told = hint(name, "--")
    assert told
    assert "{" not in told
    assert told.endswith(".")
    named = re.findall(r"--([a-z_]+\.[a-z_]+)", told)
    assert set(named) <= arguments._known_settings()


@pytest.mark.parametrize("name", ["r", "lora.r", "train.num-train-epochs", "num_train_epochs"])
def test_a_name_is_found_in_any_section_and_spelling(name: str) -> None:
    assert hint(name) == {"r": "Set lora.rank.", "epochs": "Set train.epochs."}[re.split(r"[._-]", name)[-1]]


@pytest.mark.parametrize("name", ["", "epoch", "trian.epochs", "lora", "full.learning_rates"])
def test_other_names_have_no_hint(name: str) -> None:
    assert hint(name) is None


@pytest.mark.parametrize(
    ("flag", "names"),
    [
        ("gradient_accumulation_steps", ["--train.batch_size", "--train.micro_batch_tokens"]),
        ("num_train_epochs", ["--train.epochs"]),
        ("train.num_train_epochs", ["--train.epochs"]),
        ("per_device_train_batch_size", ["--train.batch_size", "all devices"]),
        ("learning_rate", ["--full.learning_rate"]),
        ("train.learning_rate", ["--full.learning_rate"]),  # not language modelling's, which is spelled like it
        ("fp16", ["--model.dtype bfloat16"]),
        ("bf16", ["--model.dtype bfloat16"]),
        ("report_to", ["--tracking.wandb"]),
        ("warmup_ratio", ["--train.warmup_fraction"]),
        ("output_dir", ["--output"]),
        ("lora.r", ["--lora.rank"]),
    ],
)
def test_flags_and_files_are_told(
    flag: str, names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--{flag}", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --{flag}: no such setting. ")
    assert error.count("\n") == 1
    assert all(name in error for name in names)
    section, _, field = flag.rpartition(".")
    path = tmp_path / "settings.yaml"
    path.write_text(f"{section}: {{{field}: 1}}\n" if section else f"{field}: 1\n")
    with pytest.raises(UserError) as caught:
        arguments.parse(["--config", str(path)])
    assert f"{path}: {flag}: no such setting. " in caught.value.with_flags
    assert all(name.removeprefix("--") in caught.value.with_flags for name in names)
    assert "--" not in caught.value.with_flags.removeprefix(str(path))


def test_names_of_a_body_are_no_settings_of_peft(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model.from_config.num_layers", "2"]) == 2
    assert "Set " not in capsys.readouterr().err
