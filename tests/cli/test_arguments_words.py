"""YAML 1.1 reads off, on, no and yes as truth values; where a setting takes a word or a name, they stay words."""

import json
from pathlib import Path

import pytest
import yaml
from support.yaml_words import WORDS

from flax_agnews.cli import arguments
from flax_agnews.config import Config
from flax_agnews.runs.output_folder import OutputFolder, config_dict

MEANT = {word: yaml.safe_load(word) for word in [*WORDS, "true", "false"]}


def of_file(folder: Path, content: str) -> Config:
    path = folder / "words.yaml"
    path.write_text(content)
    return arguments.parse(["--config", str(path)]).config


def of_flags(*flags: str) -> Config:
    return arguments.parse(flags).config


def test_what_is_tested_is_there() -> None:
    assert {word: value for word, value in MEANT.items() if type(value) is not bool} == {}


@pytest.mark.parametrize("word", ["auto", "on", "off"])
def test_a_setting_that_takes_words(word: str, tmp_path: Path) -> None:
    in_file = of_file(tmp_path, f"train: {{cache_frozen: {word}}}")
    assert in_file.train.cache_frozen == of_flags("--train.cache_frozen", word).train.cache_frozen == word


@pytest.mark.parametrize("word", WORDS)
def test_names(word: str, tmp_path: Path) -> None:
    other = "text"
    data = f"data: {{label_column: {word}, text_column: [{other}, {word}], source: {word}}}"
    found = of_file(tmp_path, f"output: {word}\n{data}\nlora: {{targets: {word}}}\nstrategy: lora")
    same = of_flags(
        *("--data.label_column", word, "--data.text_column", f"[{other}, {word}]", f"--data.source={word}"),
        *("--output", word, "--strategy", "lora", f"--lora.targets={word}"),
    )
    for config in (found, same):
        assert (config.data.label_column, config.data.text_column, config.data.source) == (word, [other, word], word)
        assert (config.output, config.strategies["lora"].targets) == (word, word)
    assert of_file(tmp_path, f"data: {{text_column: {word}}}").data.text_column == word
    assert of_flags("--data.text_column", word).data.text_column == word


@pytest.mark.parametrize("word", MEANT)
def test_truth_values_stay_truth_values(word: str, tmp_path: Path) -> None:
    body = f"{{n_layer: 2, scale_attn_weights: {word}}}"
    content = f"parallel: {{keep_memory: {word}}}\nlora: {{rslora: {word}}}\nmodel: {{from_config: {body}}}\n"
    found = of_file(tmp_path, f"{content}strategy: lora")
    same = of_flags(
        *("--strategy", "lora", "--parallel.keep_memory", word, f"--lora.rslora={word}", "--model.from_config", body)
    )
    for config in (found, same):
        assert config.parallel.keep_memory is MEANT[word]
        assert config.strategies["lora"].rslora is MEANT[word]
        assert config.model.from_config == {"n_layer": 2, "scale_attn_weights": MEANT[word]}
    assert of_flags("--model.from_config.scale_attn_weights", word).model.from_config == {
        "scale_attn_weights": MEANT[word]
    }


def test_a_number_is_no_word(tmp_path: Path) -> None:
    content = "train: {weight_decay: 1e-4, clip_norm: 1, epochs: 3, label_smoothing: .5}\nmodel: {dropout: null}"
    config = of_file(tmp_path, f"{content}\npretrain: {{learning_rate: 5.e-4}}")
    train = config.train
    assert (train.weight_decay, train.clip_norm, train.epochs, train.label_smoothing) == (1e-4, 1.0, 3, 0.5)
    assert (config.model.dropout, config.pretrain.learning_rate) == (None, 5e-4)
    fields = {"layer_norm_epsilon": 1e-05, "n_inner": None, "n_embd": 8}
    assert of_flags("--model.from_config", json.dumps(fields)).model.from_config == fields


def awkward(word: str) -> tuple[str, ...]:
    return (
        *("--output", word, "--data.label_column", word, "--data.text_column", f"[a, '{word}']", "--strategy", "lora"),
        *("--train.cache_frozen", "off", "--train.deterministic", "yes"),
    )


@pytest.mark.parametrize("word", ["off", "No", "1e3", "2020-01-01", "ü"])
def test_what_is_printed_comes_back(word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Here, and in any YAML 1.1."""
    with pytest.raises(SystemExit):
        of_flags(*awkward(word), "--print_config")
    printed = capsys.readouterr().out
    config = of_flags(*awkward(word))
    assert of_file(tmp_path, printed) == config
    theirs = yaml.safe_load(printed)
    assert (theirs["train"]["cache_frozen"], theirs["train"]["deterministic"]) == ("off", True)
    assert (theirs["data"]["label_column"], theirs["data"]["text_column"]) == (word, ["a", word])


@pytest.mark.parametrize("word", ["off", "No", "1e3", "2020-01-01"])
def test_what_a_folder_says_comes_back(word: str, tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out")
    folder.claim(of_flags(*awkward(word)))
    assert folder.config.data.label_column == word
    file = folder.path / "config.yaml"
    file.write_text(file.read_text().replace("deterministic: true", "deterministic: yes"))  # as a person may write it
    assert folder.config.train.deterministic is True
    again = arguments.parse(["--config", str(file)]).config
    assert config_dict(again) == {**config_dict(folder.config)}
