"""GPT-2 as Hugging Face's PyTorch has it, one unpadded text at a time: the reference of the parity tests."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flax import serialization
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2Model, PreTrainedModel

# Tiny products gain nothing from threads, and waiting for each other on busy cores costs ten times the work.
torch.set_num_threads(1)

Tensors = dict[str, torch.Tensor]
WEIGHTS = "model.safetensors"

SMALL = {"vocab_size": 101, "n_positions": 130, "n_embd": 32, "n_layer": 2, "n_head": 4}
"""Sizes of a tiny GPT-2; its longest text is two blocks of attention and a bit."""

# PyTorch's name of a parameter, by the kind of module that owns it -> the library's.
LEAVES = {
    "Embedding": {"weight": "embedding"},
    "LayerNorm": {"weight": "scale", "bias": "bias"},
    "Conv1D": {"weight": "kernel", "bias": "bias"},
}


def random_gpt2(kind: type[PreTrainedModel] = GPT2Model, seed: int = 0, **fields: Any) -> PreTrainedModel:
    """A model of transformers without dropout, with weights so large that every setting shows in the numbers.

    Freshly initialised, biases are zero, norms one and attention is nearly uniform: much could be wrong unnoticed.
    """
    rates = {"bos_token_id": 0, "eos_token_id": 0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0}
    model = kind(GPT2Config(**{**SMALL, **rates, **fields})).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = ".ln_" in f".{name}" and name.endswith("weight")
            parameter.copy_(1 + 0.2 * noise if is_norm else 0.2 * noise)
    return model


def saved(model: PreTrainedModel, folder: Path, **how: Any) -> str:
    """The folder's name, after the model's own `save_pretrained`."""
    model.save_pretrained(folder, **how)
    return str(folder)


def random_texts(lengths: Iterable[int], vocabulary: int = 101, seed: int = 0) -> list[np.ndarray]:
    """Random ids, one array a text."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, vocabulary, length) for length in lengths]


class Reference(torch.nn.Module):
    """A soft prompt (if any), GPT2Model, the last real token, a bias-free head.

    Args:
        transformer: the body.
        head: [embd, classes].
        prompt: [prompt tokens, embd].
    """

    def __init__(self, transformer: PreTrainedModel, head: Any, prompt: Any = None) -> None:
        super().__init__()
        self.transformer = transformer
        self.head = torch.nn.Parameter(torch.tensor(np.array(head)))
        self.prompt = None if prompt is None else torch.nn.Parameter(torch.tensor(np.array(prompt)))

    def hidden(self, ids: np.ndarray) -> torch.Tensor:
        """Hidden states of a text's tokens, the prompt's left out: [tokens, embd]."""
        vectors = self.transformer.wte(torch.as_tensor(np.asarray(ids, np.int64)))
        if self.prompt is not None:
            vectors = torch.cat([self.prompt, vectors])
        positions = torch.arange(len(vectors))
        out = self.transformer(inputs_embeds=vectors[None], position_ids=positions[None], use_cache=False)
        return out.last_hidden_state[0, -len(ids) :]

    def forward(self, texts: Sequence[np.ndarray]) -> torch.Tensor:
        """Class scores: [texts, classes]."""
        return torch.stack([self.hidden(ids)[-1] @ self.head for ids in texts])

    def loss(self, texts: Sequence[np.ndarray], labels: Any) -> torch.Tensor:
        """Mean cross-entropy."""
        return torch.nn.functional.cross_entropy(self(texts), torch.as_tensor(np.asarray(labels, np.int64)))

    def by_path(self) -> dict[str, torch.nn.Parameter]:
        """All parameters under the library's names."""
        found = {"score/kernel": self.head, **by_path(self.transformer)}
        return found if self.prompt is None else {**found, "prompt/embedding": self.prompt}


def by_path(transformer: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """A body's parameters under the library's names; all have the library's shapes too."""
    return {
        "/".join(["transformer", *name.split("."), LEAVES[type(module).__name__][leaf]]): parameter
        for name, module in transformer.named_modules()
        for leaf, parameter in module.named_parameters(recurse=False)
    }


def numbers(transformer: torch.nn.Module) -> dict[str, np.ndarray]:
    """A body's parameters as NumPy arrays, under the library's names."""
    return {path: parameter.detach().numpy() for path, parameter in by_path(transformer).items()}


def change(folder: Path, edit: Callable[[Tensors], Any]) -> None:
    """Edits the tensors of the weights file."""
    tensors = load_file(folder / WEIGHTS)
    edit(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def configure(folder: Path, **fields: Any) -> None:
    """Changes fields of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def to_msgpack(folder: Path, model: Any) -> Path:
    """The same weights as FlaxGPT2 kept them, in place of safetensors."""
    (folder / WEIGHTS).unlink()
    nested: dict[str, Any] = {}
    for path, value in numbers(model).items():
        *parts, leaf = path.split("/")[1:]
        place = nested
        for part in parts:
            place = place.setdefault(part, {})
        place[leaf] = np.ascontiguousarray(value.T if leaf == "kernel" else value)
    file = folder / "flax_model.msgpack"
    file.write_bytes(serialization.msgpack_serialize({"transformer": nested}))
    return file
