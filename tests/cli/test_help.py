"""Training's help: a first page that fits a screen or two, and all settings by section."""

import re

import pytest

from flax_agnews.cli import arguments
from flax_agnews.cli.help import _USUAL, help_request
from flax_agnews.main import main


@pytest.fixture
def page(capsys):
    """Gives what a command with `--help` prints."""

    def printed(*flags):
        with pytest.raises(SystemExit) as stop:
            main(flags)
        assert stop.value.code == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return printed


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_first_page_fits_two_screens_of_80_columns(page, flag):
    lines = page(flag).splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 80


def test_the_first_page_names_every_section_and_the_usual_settings_with_their_defaults(page):
    text = page("--help")
    listed = re.split(r"[\s,]+", text.split("  sections ")[1])
    assert set(arguments.section_kinds()) <= set(listed)
    assert len(_USUAL) == 20
    defaults = dict(re.findall(r"^  --([a-z_]+\.[a-z_]+) (\S+) ", text, re.M))
    assert set(defaults) == set(_USUAL) <= arguments._known_settings()
    assert defaults["train.epochs"] == "5"
    assert defaults["data.limit_train"] == "null"


@pytest.mark.parametrize("flags", [["--help", "train"], ["--help=train"], ["--train.epochs", "2", "--help", "train"]])
def test_a_section_has_its_settings_with_values_defaults_and_texts(page, flags):
    text = page(*flags)
    assert text.startswith("train: ")
    assert "  --train.schedule constant|linear|cosine (default: constant)\n      Shape of the learning rate" in text
    assert "--train.clip_norm NUMBER or null (default: null)" in text
    assert "--model." not in text


def test_inherited_settings_are_documented(page):
    text = page("--help", "lora_prompt")
    heads = re.findall(r"^  --lora_prompt\.(\w+) .*\n      \S", text, re.M)
    assert {"rank", "tokens"} <= set(heads)


def test_all_has_every_setting_and_a_text_for_each(page):
    text = page("--help", "all")
    settings = {name for name in arguments._known_settings() if "." in name}
    assert set(re.findall(r"^  --([a-z_0-9]+\.[a-z_]+) .*\n      \S", text, re.M)) == settings


def test_a_flag_after_help_is_no_section(page):
    assert page("--help", "--train.epochs", "3") == page("--help")
    assert help_request(["--train.epochs", "3"]) is None


def test_a_wrong_section_is_one_line_with_the_nearest(capsys):
    assert main(["--help", "trian"]) == 2
    assert (
        capsys.readouterr().err == "error: --help trian: no such section. Did you mean train or tracking or pretrain?\n"
    )
    assert main(["--help", "xyz"]) == 2
    told = capsys.readouterr().err
    assert all(section in told for section in ["all", *arguments.section_kinds()])
