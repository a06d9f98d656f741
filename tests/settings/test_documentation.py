"""The documentation of settings, read from their dataclasses."""

from dataclasses import fields

import pytest

from flax_agnews.cli.arguments import section_kinds
from flax_agnews.config import DataConfig, ModelConfig, PretrainConfig, TrainConfig
from flax_agnews.settings.documentation import Documented, documented, introduction


@pytest.mark.parametrize("section", section_kinds())
def test_every_setting_has_a_text(section):
    kind = section_kinds()[section]
    assert introduction(kind).endswith(".")
    assert [setting.name for setting in documented(kind)] == [field.name for field in fields(kind)]
    assert all(setting.text for setting in documented(kind))


def test_an_introduction_has_all_paragraphs():
    text = introduction(PretrainConfig)
    assert text.startswith("Language-model adaptation of the body")
    assert text.endswith("and `deterministic`.")


@pytest.mark.parametrize(
    ("kind", "name", "values", "default"),
    [
        (TrainConfig, "epochs", "INT", "5"),
        (TrainConfig, "deterministic", "true|false", "false"),
        (TrainConfig, "clip_norm", "NUMBER or null", "null"),
        (TrainConfig, "schedule", "constant|linear|cosine", "constant"),
        (DataConfig, "text_column", "TEXT or [TEXT, ...]", "text"),
        (ModelConfig, "from_config", "TEXT or {name: value} or null", "null"),
    ],
)
def test_values_and_defaults(kind, name, values, default):
    [setting] = [setting for setting in documented(kind) if setting.name == name]
    assert setting == Documented(name, values, default, setting.text)
