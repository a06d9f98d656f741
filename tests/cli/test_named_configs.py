"""Configurations that come with the package, by name."""

import re
from pathlib import Path

import pytest

from flax_agnews.cli import arguments
from flax_agnews.cli.named_configs import FOLDER, NAMES, config_path, with_paths
from flax_agnews.errors import UserError
from flax_agnews.models.pretrained import load_base

ALL = "Named configurations: ag_news, quickstart, smoke"


def test_every_file_of_the_folder_has_a_name():
    assert {"ag_news", "quickstart", "smoke"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_its_file_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_path = arguments.parse(["--config", str(FOLDER / f"{name}.yaml")]).config
    assert arguments.parse(["--config", name]).config == by_path
    assert arguments.parse([f"--config={name}"]).config == by_path


def test_names_and_paths_go_together(tmp_path):
    more = tmp_path / "more.yaml"
    more.write_text("train: {runs: 9}\n")
    train = arguments.parse(["--config", "smoke", "--config", str(more), "--train.epochs", "7"]).config.train
    assert (train.runs, train.epochs, train.batch_size) == (9, 7, 32)


def test_only_the_values_of_config_are_names():
    flags = ["--output", "smoke", "--strategy=full", "--config", "smoke"]
    assert with_paths(flags) == [*flags[:-1], str(FOLDER / "smoke.yaml")]
    assert with_paths(["--config"]) == ["--config"]


def test_a_file_without_an_ending_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("train: {runs: 9}\n")
    assert config_path("mine") == Path("mine")
    assert arguments.parse(["--config", "mine"]).config.train.runs == 9


@pytest.mark.parametrize(
    ("given", "tells"),
    [
        ("quickstrat", f"no such file or named configuration. Did you mean quickstart? {ALL}"),
        ("xyz", f"no such file or named configuration. {ALL}"),
        ("xyz.yaml", "no such file"),
        ("configs/xyz.yaml", "no such file"),
        ("configs/quickstart.yaml", "no such file; named configurations: --config quickstart"),
    ],
)
def test_a_name_that_is_not_there(given, tells, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        config_path(given)
    assert error.value.with_flags == f"--config {given}: {tells}"


def test_the_quickstart_starts_from_the_packages_body_or_by_the_flags_of_its_comment_from_nothing():
    config = arguments.parse(["--config", "quickstart"]).config
    assert load_base(config.model).name == "builtin"
    assert config.pretrain.epochs == 0
    lines = config_path("quickstart").read_text().splitlines()
    comment = " ".join(line.removeprefix("#") for line in lines if line.startswith("#"))
    flags = re.findall(r"(--[a-z._]+) (\S+)", comment)
    assert {"--model.from_config", "--pretrain.epochs", "--pretrain.learning_rate"} == {flag for flag, _ in flags}
    config = arguments.parse(["--config", "quickstart", *(word for pair in flags for word in pair)]).config
    assert load_base(config.model).name == "random GPT-2 3 x 128"
    assert config.model.trains_tokenizer
    assert config.pretrain.epochs > 0
