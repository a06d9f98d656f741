"""PEFT computes the same logits and losses, from the adapter files that the library writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model, load_peft_weights, set_peft_model_state_dict
from support.bounds import BOUNDS, assert_same_losses
from support.parity import logits, rows_of
from support.peft_models import logits_of
from support.reference import random_gpt2, random_texts, saved
from support.tiny import build, devices, prepare, random_lengths, random_split, training
from transformers import GPT2ForSequenceClassification

from flax_agnews.config import ModelConfig
from flax_agnews.data.encoded import Split
from flax_agnews.data.tokens import Ragged
from flax_agnews.models import parameters
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.pretrained import Base, load_base
from flax_agnews.strategies import Strategy
from flax_agnews.trained.exports.peft import write_adapter

# PEFT 0.21 asks transformers 5.24 for an attribute by its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

CLASSES = 4
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {"rank": 4, "alpha": 10.0, "targets": "c_attn"}),
    "lora, every product": ("lora", {"rank": 3, "alpha": 6.0, "targets": "c_attn,c_proj,c_fc"}),
    "lora, one c_proj": ("lora", {"rank": 3, "alpha": 6.0, "targets": "mlp.c_proj"}),
    "lora, rank-stabilised": ("lora", {"rank": 9, "alpha": 6.0, "rslora": True}),
    "lora, upper layer": ("lora", {"rank": 2, "alpha": 6.0, "top_layers": 1}),
    "ia3": ("ia3", {}),
    "prefix": ("prefix", {"tokens": 5}),
    "prompt": ("prompt", {"tokens": 5}),
}


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Base]:
    """The directory of Hugging Face's classifier, and our body of the same weights."""
    model = random_gpt2(GPT2ForSequenceClassification, num_labels=CLASSES, pad_token_id=0, n_positions=80)
    folder = saved(model, tmp_path_factory.mktemp("body"))
    return folder, load_base(ModelConfig(name=folder))


def moved(
    frame: Any, weights: dict[str, Any], trained: Sequence[str]
) -> tuple[ClassifierModule, dict[str, np.ndarray]]:
    """The classifier with other values for all that trains, and these."""
    rng = np.random.default_rng(1)
    values = {p: np.float32(weights[p] + 0.3 * rng.standard_normal(weights[p].shape)) for p in trained}
    return frame.merge({**weights, **values}), values


def peft_model(base: Base, folder: Path, strategy: Strategy, trained: Any, trains: bool = False) -> PeftModel:
    """PEFT's model of what trained, from the files that are written for it."""
    write_adapter(folder, strategy, base, trained, list("abcd"))
    classifier = GPT2ForSequenceClassification.from_pretrained(base.name)
    if not trains:
        return PeftModel.from_pretrained(classifier, folder).eval()
    config = PeftConfig.from_pretrained(folder)  # `from_pretrained` refuses prompts that train
    config.inference_mode = False
    model = get_peft_model(classifier, config).eval()
    set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))
    return model


@pytest.mark.parametrize("method", METHODS)
def test_peft_gives_the_logits(method: str, body: tuple[str, Base], tmp_path: Path) -> None:
    _, base = body
    name, fields = METHODS[method]
    strategy = build(name, base.config, **{**fields, **({"dropout": 0.0} if name == "lora" else {})})
    model = strategy.adapt(base.classifier(CLASSES, jax.random.key(0)), jax.random.key(1))
    frame, weights = parameters.split(model)
    trained = [p for p, shape in frame.shapes.items() if strategy.label(p, shape) != "frozen"]
    ours, values = moved(frame, weights, trained)
    theirs = peft_model(base, tmp_path, strategy, values)
    texts = [np.maximum(ids, 1) for ids in random_texts((21,) * 6)]  # of one length: PEFT's prompt can't have padding
    expected = logits_of(theirs, texts)
    np.testing.assert_allclose(logits(ours, texts), expected, rtol=0, atol=1e-4)
    without = logits(base.classifier(CLASSES, jax.random.key(0)), texts)
    assert np.abs(without - expected).max() > 0.1  # else what was added would not show


STEPS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4, "alpha": 16.0, "targets": "c_attn,c_proj", "dropout": 0.0, "learning_rate": 1e-2},
    "prompt": {"tokens": 5, "learning_rate": 2e-2},
}


@pytest.mark.parametrize("name", STEPS)
def test_twenty_steps(name: str, body: tuple[str, Base], tmp_path: Path) -> None:
    """Text by text: PEFT's prompt can't have padding."""
    _, base = body
    strategy, rate = build(name, base.config, **STEPS[name]), STEPS[name]["learning_rate"]
    drawn = random_split(random_lengths(37, 40), classes=CLASSES)
    tokens = drawn.tokens
    texts = Split(Ragged(np.maximum(tokens.ids, 1), tokens.offsets), drawn.labels)  # 0 is Hugging Face's padding
    program = training(prepare(strategy, base, dropout=0.0, weight_decay=0.01), texts, devices(), epochs=4)
    state, frozen = program.start(seed=0)
    theirs = peft_model(base, tmp_path, strategy, dict(state.params), trains=True)
    optimizer = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=rate, weight_decay=0.01)
    numbers = sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    assert numbers == program.setup.trainable_parameters

    def loss(step: int) -> torch.Tensor:
        rows, labels = rows_of(program, texts, step)
        scores = torch.cat([theirs(input_ids=torch.tensor(ids[None], dtype=torch.long)).logits for ids in rows])
        return torch.nn.functional.cross_entropy(scores, torch.tensor(labels, dtype=torch.long))

    with torch.no_grad():
        untrained = loss(19).item()
    ours, expected = [], []
    for step in range(20):
        value = loss(step)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        expected.append(value.item())
        state, metrics = program.train_step(state, frozen, 0, *divmod(step, program.batches.steps_per_epoch))
        ours.append(float(metrics["loss"] / metrics["weight"]))
    assert abs(expected[-1] - untrained) > 1000 * BOUNDS["losses"], "the steps barely changed the loss"
    assert_same_losses(ours, expected)


# Bottlenecks, which PEFT doesn't have


class Bottleneck(torch.nn.Module):
    """A projection of Hugging Face's, and a bottleneck behind it: `leaves` are ours, by name."""

    def __init__(self, projection: torch.nn.Module, activation: torch.nn.Module, leaves: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.projection, self.activation = projection, activation
        inner, width = leaves["adapter_up/kernel"].shape
        self.down, self.up = torch.nn.Linear(width, inner), torch.nn.Linear(inner, width)
        for layer, name in ((self.down, "adapter_down"), (self.up, "adapter_up")):
            layer.weight.data = torch.tensor(leaves[f"{name}/kernel"].T)
            layer.bias.data = torch.tensor(leaves[f"{name}/bias"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.projection(x)
        return y + self.up(self.activation(self.down(y)))


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
def test_bottlenecks_are_those_of_a_pytorch_module(placement: str, body: tuple[str, Base]) -> None:
    folder, base = body
    strategy = build("adapter", base.config, placement=placement, reduction=4)
    model = strategy.adapt(base.classifier(CLASSES, jax.random.key(0)), jax.random.key(1))
    frame, weights = parameters.split(model)
    ours, values = moved(frame, weights, [p for p, s in frame.shapes.items() if strategy.label(p, s) != "frozen"])

    theirs = GPT2ForSequenceClassification.from_pretrained(folder).eval()
    theirs.score.weight.data = torch.tensor(values["score/kernel"].T)
    activation = torch.nn.GELU("tanh") if placement == "houlsby" else torch.nn.ReLU()
    for name, norm in theirs.transformer.named_modules():
        if isinstance(norm, torch.nn.LayerNorm) and placement == "houlsby":
            path = "transformer/" + name.replace(".", "/")
            norm.weight.data, norm.bias.data = (torch.tensor(values[f"{path}/{leaf}"]) for leaf in ("scale", "bias"))
    for i, block in enumerate(theirs.transformer.h):
        for part in ("attn", "mlp") if placement == "houlsby" else ("mlp",):
            at = f"transformer/h/{i}/{part}/c_proj/"
            leaves = {path.removeprefix(at): value for path, value in values.items() if path.startswith(at)}
            owner = getattr(block, part)
            owner.c_proj = Bottleneck(owner.c_proj, activation, leaves)
    texts = [np.maximum(ids, 1) for ids in random_texts((21,) * 6)]
    with torch.no_grad():
        expected = theirs(torch.tensor(np.array(texts))).logits.numpy()
    np.testing.assert_allclose(logits(ours, texts), expected, rtol=0, atol=1e-4)
