"""Mistakes in flags and settings files are one line that helps; a printed configuration runs again."""

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from support.main_refusals import Refusal, refusal
from support.small_experiments import SMOKE, small

from flax_agnews.cli import arguments
from flax_agnews.config import Config
from flax_agnews.main import main
from flax_agnews.strategies import REGISTRY

__all__ = ["refusal"]  # fixtures


# --- settings


@pytest.mark.parametrize(
    ("flags", "begins", "names"),
    [
        (["--train.batchsize", "64"], "--train.batchsize: no such setting.", "Did you mean --train.batch_size"),
        (["--train.batchsize=64"], "--train.batchsize: no such setting.", "Did you mean --train.batch_size"),
        (["--trian.epochs", "3"], "--trian.epochs: no such setting.", "--train.epochs"),
        (["--ouput", "x"], "--ouput: no such setting.", "--output"),
        (["--zyx.rank", "8"], "--zyx.rank: no such setting.", "--train"),
        (["--strategy", "promt"], "--strategy promt: no such strategy.", "Did you mean prompt"),
        (["--strategy", "full,partail"], "--strategy partail: no such strategy.", "partial"),
        (["--strategy", "xyz"], "--strategy xyz: no such strategy.", "adapter, all, bitfit, every, full"),
        (["--train.epochs", "three"], "--train.epochs three: ", "int"),
        (["--train.epochs", "1.5"], "--train.epochs 1.5: ", "int"),
        (["--full.learning_rate", "fast"], "--full.learning_rate fast: ", "float"),
        (["--train.clip_norm", "some"], "--train.clip_norm some: ", "float"),
        (["--model.dtype", "float16"], "--model.dtype float16: ", "float32, bfloat16"),
        (["--prompt.initializer", "zeros"], "--prompt.initializer zeros: ", "vocabulary, normal"),
        (["--train.batch_size", "0"], "--train.batch_size 0: ", "1 or more"),
        (["--train.runs", "0"], "--train.runs 0: ", "1 or more"),
        (["--train.shapes", "0"], "--train.shapes 0: ", "auto, or 1 or more"),
        (["--train.shapes", "-1"], "--train.shapes -1: ", "auto, or 1 or more"),
        (["--train.shapes", "many"], "--train.shapes many: ", "int or auto"),
        (["--data.text_column", "[a]"], "--data.text_column ['a']: ", "two different ones, such as [premise"),
        (["--data.text_column", "[a, a]"], "--data.text_column ['a', 'a']: ", "two different ones"),
        (["--data.text_column", "[a, b]", "--data.max_length", "2"], "--data.max_length 2: ", "3 or more for pairs"),
        (["--train.class_weights", "even"], "--train.class_weights even: ", "none, balanced"),
        (["--train.epochs", "-1"], "--train.epochs -1: ", "1 or more"),
        (["--data.validation_fraction", "1"], "--data.validation_fraction 1", "below 1"),
        (["--full.learning_rate", "-0.001"], "--full.learning_rate -0.001: ", "above 0"),
        (["--prompt.tokens", "0"], "--prompt.tokens 0: ", "1 to 63"),
        (["--partial.frozen_fraction", "2"], "--partial.frozen_fraction 2", "0 to 1"),
        (["--parallel.devices", "9"], "--parallel.devices 9: ", "4"),
        (["--model.from_config.n_embd", "33"], "model.from_config: n_embd 33 ", "multiple of n_head 2"),
        (["--tracking.wandb", "online"], "--tracking.wandb online: no key", "wandb login"),
        (["stray"], "unrecognized arguments: stray", ""),
        (["--train.epochs"], "argument --train.epochs: expected one argument", ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_flag_is_named_with_what_is_allowed(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch, flags: list[str], begins: str, names: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where wandb would find a key
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    message = refusal(*flags)
    assert message.startswith(begins)
    assert names in message.removeprefix(begins)


@pytest.mark.parametrize(
    ("content", "tells"),
    [
        ("train: {batchsize: 64}", "train.batchsize: no such setting. Did you mean train.batch_size"),
        ("trian: {epochs: 3}", "trian: no such setting. Did you mean train"),
        ("strategy: promt", "--strategy promt: no such strategy. Did you mean prompt"),
        ("train: {epochs: three}", "--train.epochs three: expected int"),
        ("train: {batch_size: 0}", "--train.batch_size 0: must be 1 or more"),
        ("train: {weight_decay: .nan}", "--train.weight_decay nan"),
        ("train: 5", "train"),
        ("train: [epochs]", "train"),
        ("model: {from_config: {n_head: 5}}", "n_embd 768 must be a multiple of n_head 5"),
        ("train: {epochs: [1", "not YAML"),
        ("train:\n\tepochs: 1", "not YAML"),
        ("- train", "mapping"),
        ("just words", "mapping"),
    ],
)
def test_a_wrong_setting_in_a_file(refusal: Refusal, tmp_path: Path, content: str, tells: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content + "\n")
    message = refusal("--config", path)
    assert tells in message
    assert "functools" not in message
    if "no such setting" in tells or "not YAML" in tells or "mapping" in tells:
        assert str(path) in message


def test_a_settings_file_that_cannot_be_read(refusal: Refusal, tmp_path: Path) -> None:
    assert refusal("--config", tmp_path / "none.yaml") == f"--config {tmp_path / 'none.yaml'}: no such file"
    assert "can't be read" in refusal("--config", tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"output: \xe9\n")
    assert "line 1: byte 0xe9 is not UTF-8; convert it" in refusal("--config", tmp_path / "latin.yaml")


def test_a_settings_file_of_windows_is_read(tmp_path: Path) -> None:
    """With a byte order mark and its line ends, and where the locale has no such letters."""
    path = tmp_path / "config.yaml"
    path.write_bytes("data:\r\n  source: Wörter.csv\r\n  max_length: 7\r\n".encode("utf-8-sig"))
    show = "import sys; from flax_agnews.cli import arguments; d = arguments.parse(sys.argv[1:]).config.data"
    done = subprocess.run(
        [sys.executable, "-c", f"{show}; print(ascii(d.source), d.max_length)", "--config", path],
        env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert (done.stdout, done.returncode) == ("'W\\xf6rter.csv' 7\n", 0), done.stderr


def test_a_mistake_in_a_process_of_its_own_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flax_agnews.main", *small(tmp_path / "out", "--train.batchsize", 64)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=SMOKE.parents[1])
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("error: --train.batchsize: no such setting. Did you mean --train.batch_size")
    assert not (tmp_path / "out").exists()


# --- data


# --- weights and tokenizer


# --- no network (the test settings say HF_HUB_OFFLINE=1)


# --- output folder


def test_a_folder_of_another_configuration_shows_the_difference(refusal: Refusal, tmp_path: Path) -> None:
    output = tmp_path / "used"
    output.mkdir()
    before = yaml.safe_load(SMOKE.read_text()) | {"strategy": "full"}
    request = arguments.parse(small(output, "--strategy", "full", "--train.epochs", 5))
    settings = {**asdict(request.config), **{name: asdict(s) for name, s in request.config.strategies.items()}}
    del settings["strategies"]
    (output / "config.yaml").write_text(yaml.safe_dump(before | settings))
    flags = ("--strategy", "full", "--train.epochs", 3, "--full.learning_rate", 0.5)
    message = refusal(*flags, output=output)
    assert message.startswith(f"{output} belongs to another configuration: ")
    assert "train.epochs was 5, now 3" in message
    assert "full.learning_rate was 0.001, now 0.5" in message
    assert message.endswith("Choose another --output, or --overwrite")


# --- what is printed


def _printed(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(flags)
    assert not stop.value.code
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    text = _printed(capsys, "--help", "all")
    sections = {name: value for name, value in asdict(Config()).items() if isinstance(value, dict)}
    del sections["strategies"]
    sections |= {entry.name: asdict(entry.settings()) for entry in REGISTRY}
    assert all(f"--{section}.{name} " in text for section, fields in sections.items() for name in fields)
    first = _printed(capsys, "--help")
    assert "--config" in first
    assert "--overwrite" in first


def test_two_columns_are_a_list_in_flags_and_files(tmp_path: Path) -> None:
    path = tmp_path / "pairs.yaml"
    path.write_text("data:\n  text_column: [premise, hypothesis]\n")
    for flags in (["--config", str(path)], ["--data.text_column", "[premise, hypothesis]"]):
        assert arguments.parse(flags).config.data.text_columns == ["premise", "hypothesis"]
    assert arguments.parse(["--data.text_column", "body"]).config.data.text_columns == ["body"]


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--config", str(SMOKE), "--strategy", "prompt", "--train.clip_norm", "1"],
        ["--data.text_column", "[premise, hypothesis]"],
    ],
)
def test_the_printed_configuration_can_be_run_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: list[str]
) -> None:
    path = tmp_path / "printed.yaml"
    path.write_text(_printed(capsys, *flags, "--print_config"))
    assert arguments.parse(["--config", str(path)]).config == arguments.parse(flags).config
    assert _printed(capsys, "--config", str(path), "--print_config") == path.read_text()


@pytest.mark.parametrize("path", sorted(SMOKE.parent.glob("*.yaml")), ids=lambda path: path.name)
def test_every_configuration_that_is_shipped_is_read(path: Path) -> None:
    content, config = yaml.safe_load(path.read_text()), arguments.parse(["--config", str(path)]).config
    written = {(s, key): v for s, part in content.items() if isinstance(part, dict) for key, v in part.items()}
    read = asdict(config)
    read |= read.pop("strategies")
    assert all(read[section][key] == value for (section, key), value in written.items() if section in read)
    assert read["output"] == content.get("output", Config().output)


def test_flags_win_over_files_and_the_last_file_over_the_first(tmp_path: Path) -> None:
    path = tmp_path / "more.yaml"
    path.write_text("train: {epochs: 7, runs: 9}\n")
    train = arguments.parse(["--config", str(SMOKE), "--config", str(path), "--train.runs", "4"]).config.train
    assert (train.epochs, train.runs, train.batch_size) == (7, 4, 32)


def test_no_flags_are_the_original_experiment() -> None:
    """The values of the table and the paragraph that describe it."""
    config = arguments.parse([]).config
    assert config.strategy == "full,prompt,partial"
    assert (config.model.name, config.model.from_config, config.pretrain.epochs) == ("gpt2", None, 0)
    assert (config.data.source, config.data.max_length) == ("fancyzhx/ag_news", 256)
    assert (config.data.validation_fraction, config.data.split_seed) == (0.1, 42)
    assert config.data.limit_train is config.data.limit_test is None
    train = config.train
    assert (train.epochs, train.runs, train.batch_size, train.seed, train.weight_decay) == (5, 3, 128, 42, 0.01)
    assert (train.schedule, train.warmup_fraction, train.clip_norm, train.weight_decay_mask) == (
        "constant",
        0.0,
        None,
        "all",
    )
    full, prompt, partial = (config.strategies[name] for name in ("full", "prompt", "partial"))
    assert (full.learning_rate, prompt.learning_rate, partial.learning_rate) == (5e-5, 5e-4, 5e-5)
    assert (prompt.tokens, partial.frozen_fraction, partial.top_multiplier) == (20, 0.5, 5.0)
    assert config.model.dropout is None  # GPT-2's own
    assert not config.model.dropout_frozen
