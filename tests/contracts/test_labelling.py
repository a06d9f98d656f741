"""Strategies that only choose what trains: the chosen parameters against PyTorch's own list, and how many there are."""

import pytest
import torch
from support import tiny
from support.reference import by_path
from support.strategy_sizes import body_size, every_config, trained
from transformers import GPT2Config as TorchConfig
from transformers import GPT2ForSequenceClassification


def of_torch(config, belongs):
    """Our paths of the parameters of transformers' classifier that `belongs` (module, name of the parameter)."""
    sizes = {name: getattr(config, name) for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")}
    model = GPT2ForSequenceClassification(TorchConfig(**sizes, num_labels=4, pad_token_id=0))
    paths = {id(parameter): path for path, parameter in by_path(model.transformer).items()}
    paths[id(model.score.weight)] = "score/kernel"
    return {
        paths[id(parameter)]
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if belongs(module, name) or parameter is model.score.weight
    }


BELONGS = {
    "head": lambda module, name: False,
    "bitfit": lambda module, name: name == "bias",
    "norms": lambda module, name: isinstance(module, torch.nn.LayerNorm),
    "llrd": lambda module, name: True,
}


@every_config
@pytest.mark.parametrize("name", BELONGS)
def test_what_trains_is_pytorchs_list(name, config):
    setup, _ = trained(tiny.build(name, config), config)
    assert setup.trainable == of_torch(config, BELONGS[name])


@every_config
def test_how_many_numbers_train(config):
    layers, width = config.n_layer, config.n_embd
    head = 4 * width
    assert {name: trained(tiny.build(name, config), config)[1] for name in BELONGS} == {
        "head": head,
        "bitfit": layers * (2 + 4 + 5) * width + width + head,  # norms; attention (3 + 1); MLP (4 + 1)
        "norms": layers * 2 * 2 * width + 2 * width + head,
        "llrd": body_size(config) + head,
    }


# Gradual unfreezing
