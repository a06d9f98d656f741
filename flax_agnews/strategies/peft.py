"""Converts a strategy's trained parameters and settings to and from adapters of PEFT for GPT-2.

PEFT is https://github.com/huggingface/peft; its adapters hold the same numbers under other names.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flax_agnews.errors import UserError, flag, shown
from flax_agnews.models.gpt2_config import GPT2Config

Shapes = Mapping[str, tuple[int, ...]]
"""Path -> shape of each trained parameter."""

# Fields of adapter_config.json that don't change what an adapter computes, or that its tensors' names and shapes show.
_FREE = {
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type"),
    *("encoder_hidden_size", "prefix_projection", "prompt_tuning_init", "prompt_tuning_init_text", "init_weights"),
    *("tokenizer_kwargs", "tokenizer_name_or_path", "init_ia3_weights", "megatron_core", "qalora_group_size"),
    *("modules_to_save", "exclude_modules", "layers_pattern", "fan_in_fan_out"),
}
_NOTHING: tuple[Any, ...] = (None, False, "none", [], {}, "")  # values by which a field switches nothing on
_INITIALIZERS = (True, "gaussian", "orthogonal")  # those of PEFT's LoRA that leave the body as it is

PADDED_RIGHT = (
    "In a batch of texts of several lengths, PEFT gives each the logits that it has alone if the padding is on the "
    "right and is the model's `pad_token_id`. On the left it changes them: GPT-2 counts positions from the padding on."
)
"""Text for the model card: how PEFT treats padding with methods that leave positions and pooling to GPT-2."""


@dataclass(frozen=True)
class Peft:
    """How a strategy is written as a PEFT adapter: its configuration, and the names and shapes of its tensors.

    Attributes:
        fields: fields of adapter_config.json.
        tensor: (path, array) of a trained parameter -> (key, array) in adapter_model.safetensors; it may only rename,
            reshape and reorder.
        settings: (fields of an adapter_config.json of this method, keys of its tensors) -> the settings of the strategy
            that the adapter implies, by name.
        padded: text for the model card: how PEFT treats texts of several lengths in one batch.
    """

    fields: Mapping[str, Any]
    tensor: Callable[[str, np.ndarray], tuple[str, np.ndarray]]
    settings: Callable[[Mapping[str, Any], Collection[str]], Mapping[str, Any]]
    padded: str

    def tensors(self, trained: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The tensors of adapter_model.safetensors, by key.

        Args:
            trained: path -> array of each trained parameter.
        """
        moved = (self.tensor(path, np.asarray(value, np.float32)) for path, value in trained.items())
        return {key: np.ascontiguousarray(value) for key, value in moved}

    def keys(self, shapes: Shapes) -> dict[str, str]:
        """Path -> key of the parameter's tensor in adapter_model.safetensors."""
        return {path: self.tensor(path, np.empty(shape, bool))[0] for path, shape in shapes.items()}

    def shapes(self, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """Path -> shape of the parameter's tensor in adapter_model.safetensors."""
        return {path: self.tensor(path, np.empty(shape, bool))[1].shape for path, shape in shapes.items()}

    def values(self, tensors: Mapping[str, np.ndarray], shapes: Shapes) -> dict[str, np.ndarray]:
        """Converts an adapter's tensors to trained parameters, by path.

        Args:
            tensors: path -> tensor of the parameter, as it is in adapter_model.safetensors.
            shapes: path -> shape of the parameter.
        """
        found = {}
        for path, shape in shapes.items():
            # Inverts `tensor`: applied to the index of each number, it shows where each number went.
            indices = np.arange(np.prod(shape, dtype=int)).reshape(shape)
            value = np.empty(indices.size, np.float32)
            value[self.tensor(path, indices)[1].ravel()] = tensors[path].ravel()
            found[path] = value.reshape(shape)
        return found

    def check(self, fields: Mapping[str, Any], given: Collection[str], shapes: Shapes, name: str, where: str) -> None:
        """Raises a `UserError` where an adapter doesn't compute what the strategy does with its settings.

        Args:
            fields: fields of its adapter_config.json.
            given: keys of its tensors.
            shapes: path -> shape of each trained parameter.
            name: name of the strategy.
            where: the adapter's name, for errors.
        """
        if fields.get("peft_type") != self.fields["peft_type"]:
            method, ours = shown(fields.get("peft_type")), self.fields["peft_type"]
            raise UserError(f"{where} is of PEFT's method {method}; strategy {name} starts from {ours}")
        ours, theirs = self.settings(self.fields, list(self.keys(shapes).values())), self.settings(fields, given)
        for setting, value in theirs.items():
            if value != ours[setting]:
                has, wanted = shown(value, 100), shown(ours[setting], 100)
                raise UserError(f"{where} has {setting} {has}, not {wanted}; give {flag(f'{name}.{setting}')} {has}")
        for field, value in fields.items():
            harmless = field == "init_lora_weights" and value in _INITIALIZERS
            if field not in self.fields and field not in _FREE and value not in _NOTHING and not harmless:
                unknown = f"{shown(field)}: {shown(value)} in its adapter_config.json"
                raise UserError(f"{where} has {unknown}, which strategy {name} doesn't do")


def virtual_tokens(method: str, tokens: int, config: GPT2Config) -> dict[str, Any]:
    """The fields of adapter_config.json of a method with virtual tokens.

    Args:
        method: PEFT's name of the method (`peft_type`).
        tokens: number of virtual tokens.
        config: configuration of the body.
    """
    return {
        "peft_type": method,
        "num_virtual_tokens": tokens,
        "token_dim": config.n_embd,
        "num_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_transformer_submodules": 1,
    }


def tokens_setting(fields: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """`Peft.settings` of a method with virtual tokens."""
    return {"tokens": fields.get("num_virtual_tokens")}
