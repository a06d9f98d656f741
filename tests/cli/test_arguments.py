"""Every mistake on the command line and in its files is one line that helps; what is printed can be run again."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file
from support.hub_standin import make_gpt2_repository
from support.small_experiments import SMOKE, small

from flax_agnews.cli import arguments
from flax_agnews.config import Config
from flax_agnews.data import builtin
from flax_agnews.main import main
from flax_agnews.strategies import REGISTRY

Refusal = Callable[..., str]


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Refusal:
    """Runs a small experiment with flags that are wrong; gives the line that stands behind `error: `."""

    def refuse(*flags: object, output: Path = tmp_path / "out") -> str:
        before = sorted(output.rglob("*")) if output.is_dir() else None
        capsys.readouterr()  # what fixtures said
        assert main(small(output, *flags)) == 2
        out, err = capsys.readouterr()
        assert err.startswith("error: ")
        assert err.endswith("\n")
        [line] = err.splitlines()
        assert "Traceback" not in out + err
        assert "compiling" not in out  # all of this is found before the slow part
        after = sorted(output.rglob("*")) if output.is_dir() else None
        assert after == before  # and the folder is left for the corrected command
        return line.removeprefix("error: ")

    return refuse


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


def _rows(count: int = 40) -> str:
    return "text,label\n" + "".join(f"text number {row},{row % 4}\n" for row in range(count))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A good data set; tests spoil it."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text(_rows())
    return folder


@pytest.mark.parametrize(
    ("spoil", "tells"),
    [
        (lambda rows: None, "--data.train_split train: "),
        (lambda rows: "", "train.csv is empty"),
        (lambda rows: "text,label\n", "train.csv has no rows"),
        (lambda rows: rows + "ragged,1,2\n", "train.csv line 42: has 3 fields, but the header has 2"),
        (lambda rows: rows + "short\n", "train.csv line 42: has 1 fields, but the header has 2"),
        (lambda rows: rows + '"open,1\n', "train.csv line 42: broken CSV"),
        (lambda rows: rows + "a,1.5\n", "train.csv line 42: label 1.5: is a regression meant?"),
        (lambda rows: rows + "a,\n", "train.csv line 42: the label is missing"),
        (lambda rows: rows.replace("text,label", "body,topic"), "train.csv has the columns body, topic"),
    ],
)
def test_a_spoiled_training_file(refusal: Refusal, data: Path, spoil: Callable[[str], str | None], tells: str) -> None:
    content = spoil(_rows())
    if content is None:
        (data / "train.csv").unlink()
    else:
        (data / "train.csv").write_text(content)
    assert tells in refusal("--data.source", data)


def test_a_test_label_outside_the_training_classes(refusal: Refusal, data: Path) -> None:
    (data / "test.csv").write_text(_rows() + "a,4\n")
    assert "test.csv line 42: label 4 is no class. Classes: 0 to 3" in refusal("--data.source", data)


def test_wrong_columns_name_those_that_are_there(refusal: Refusal, data: Path) -> None:
    columns = f"{data / 'train.csv'} has the columns text, label"
    assert refusal("--data.source", data, "--data.text_column", "body") == f"--data.text_column body: {columns}"
    assert refusal("--data.source", data, "--data.label_column", "y") == f"--data.label_column y: {columns}"


def test_a_missing_data_folder(refusal: Refusal, tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    assert refusal("--data.source", path) == f"--data.source {path}: no such file or folder"


# --- weights and tokenizer

FROM_HUB = ("--model.from_config", "null", "--model.name")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A good tiny GPT-2; tests spoil it."""
    return make_gpt2_repository(tmp_path / "gpt2", builtin.load(Config().data).splits["train"].texts[:200])


def _edit(model: Path, change: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]) -> None:
    save_file(dict(change(load_file(model / "model.safetensors"))), model / "model.safetensors")


def test_missing_weights_are_all_listed(refusal: Refusal, model: Path) -> None:
    gone = ["h.0.ln_1.bias", "h.1.attn.c_attn.weight", "ln_f.weight", "wpe.weight"]
    _edit(model, lambda tensors: {key: value for key, value in tensors.items() if key not in gone})
    message = refusal(*FROM_HUB, model)
    assert str(model) in message
    assert "model.safetensors lacks" in message
    assert all(key in message for key in gone)


def test_weights_of_another_shape_are_all_listed(refusal: Refusal, model: Path) -> None:
    wrong = ["h.0.mlp.c_fc.weight", "h.1.ln_2.bias"]
    _edit(model, lambda tensors: tensors | {key: np.zeros(tensors[key].size + 1, np.float32) for key in wrong})
    message = refusal(*FROM_HUB, model)
    assert all(key in message for key in wrong)
    assert "[4097]" in message  # 32 x 128 and one more
    assert "[32, 128]" in message


@pytest.mark.parametrize("keep", [0, 4, 2000, -1])
def test_truncated_weights(refusal: Refusal, model: Path, keep: int) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    message = refusal(*FROM_HUB, model)
    assert message.startswith(f"{model}: model.safetensors is truncated or damaged")


def test_a_header_that_promises_more_than_there_is(refusal: Refusal, model: Path) -> None:
    (model / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    assert "truncated or damaged" in refusal(*FROM_HUB, model)


def test_a_model_folder_without_its_files(refusal: Refusal, model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert "has neither model.safetensors nor flax_model.msgpack" in refusal(*FROM_HUB, model)
    (model / "config.json").write_text("{")
    assert "config.json is not JSON" in refusal(*FROM_HUB, model)
    (model / "config.json").unlink()
    assert "has no config.json" in refusal(*FROM_HUB, model)
    assert "no such directory" in refusal(*FROM_HUB, model / "none", "--model.tokenizer", model)


def test_a_tokenizer_with_ids_beyond_the_vocabulary(refusal: Refusal, model: Path) -> None:
    size = json.loads((model / "config.json").read_text())["vocab_size"]
    message = refusal("--model.from_config.vocab_size", size - 1, "--model.tokenizer", model)
    assert f"ids up to {size - 1}" in message
    assert f"only {size - 1} entries" in message


def test_a_tokenizer_folder_without_a_tokenizer(refusal: Refusal, tmp_path: Path) -> None:
    assert "neither vocab.json nor tokenizer.json" in refusal("--model.tokenizer", tmp_path)


def test_texts_longer_than_the_positions(refusal: Refusal) -> None:
    """64 positions, as the small body has; the prompt needs some of them."""
    assert "at most 64 " in refusal("--strategy", "full", "--data.max_length", 65)
    assert "at most 60 " in refusal("--strategy", "prompt", "--data.max_length", 61, "--prompt.tokens", 4)


# --- no network (the test settings say HF_HUB_OFFLINE=1)


@pytest.mark.parametrize(
    "flags",
    [
        ("--data.source", "fancyzhx/ag_news"),
        ("--model.from_config", "null"),
        ("--model.from_config", "null", "--model.name", "nobody/nothing"),
        ("--model.tokenizer", "gpt2"),
        ("--model.tokenizer", "nobody/nothing"),
    ],
)
def test_what_is_only_on_the_hub_says_how_to_do_without(refusal: Refusal, flags: tuple[str, ...]) -> None:
    message = refusal(*flags)
    assert (flags[-1] if flags[-1] != "null" else "gpt2") in message
    assert "the hub can't be reached" in message
    assert "Offline: --" in message
    assert message.endswith("or unset HF_HUB_OFFLINE, which keeps it from being asked")
    assert "configs/" not in message  # an installed package has none


# --- output folder


def test_an_output_that_is_a_file_or_cannot_be_made(refusal: Refusal, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    for output in (path, path / "below"):
        message = refusal(output=output)
        assert message.startswith(f"--output {path}")
    assert path.read_text() == "mine"


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
