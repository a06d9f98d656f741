"""What a strategy may be given as: a name, an entry, an entry with settings, settings, a strategy."""

import pytest
from support import tiny

from flax_agnews.errors import UserError
from flax_agnews.strategies import REGISTRY, resolve
from flax_agnews.strategies.lora import LORA, LoraSettings
from flax_agnews.strategies.lora_prompt import LORA_PROMPT, LoraPromptSettings


def test_a_name_is_its_entry_and_values_stay_as_they_are():
    strategy = LORA.build(LoraSettings(), tiny.CONFIG)
    assert resolve("lora") is resolve(LORA) is LORA
    assert resolve(strategy) is strategy


def test_an_entry_that_is_called_has_these_settings():
    called = LORA(rank=4)
    assert LORA.settings_given is None
    assert called.settings_given == LoraSettings(rank=4)
    assert (called.name, called.build) == ("lora", LORA.build)
    assert called(alpha=2).settings_given == LoraSettings(rank=4, alpha=2)
    assert hash(called) is not None


@pytest.mark.parametrize(
    ("settings", "entry"),
    [(LoraSettings(rank=4), LORA), (LoraPromptSettings(rank=4), LORA_PROMPT)],
    ids=["lora", "settings that inherit others"],
)
def test_settings_are_their_entry(settings, entry):
    found = resolve(settings)
    assert (found.name, found.settings_given) == (entry.name, settings)


@pytest.mark.parametrize("targets", [["attn.c_proj", "c_fc"], ("attn.c_proj", "c_fc"), "attn.c_proj,c_fc"])
def test_targets_are_a_list_or_a_text(targets):
    assert LORA(targets=targets).settings_given.targets == "attn.c_proj,c_fc"
    strategy = LORA.build(LORA(targets=targets).settings_given, tiny.CONFIG)
    assert strategy.settings["targets"] == "attn.c_proj,c_fc"


@pytest.mark.parametrize("entry", list(REGISTRY), ids=lambda entry: entry.name)
def test_every_entry_can_be_called(entry):
    assert entry(learning_rate=1).settings_given == entry.settings(learning_rate=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LORA(rnk=4), r"^lora\(rnk=4\): no such setting\. Did you mean rank\?$"),
        (lambda: LORA(r=4), r"^lora\(r=4\): no such setting\. Set lora\.rank\.$"),
        (lambda: LORA(rank="four"), r"^lora\(rank='four'\): must be a whole number$"),
        (lambda: LORA(targets=4), r"^lora\(targets=4\): must be a text$"),
        (lambda: resolve("lroa"), r"lroa: no such strategy\. Did you mean lora\?$"),
        (lambda: resolve(4), r"^strategy 4: must be a registered name, an entry such as lora\(rank=4\), settings"),
        (lambda: resolve(LoraSettings), r"^strategy <class '.*: must be a registered name"),
        (lambda: resolve(tiny.CONFIG), r"^strategy GPT2Config\(.*: must be a registered name"),
    ],
)
def test_mistakes_are_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call()
