"""To PEFT: a folder that `PeftModel.from_pretrained` loads on a GPT2ForSequenceClassification of the run's body."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError
from flax_agnews.files import write_json
from flax_agnews.models.pretrained import Base
from flax_agnews.models.weights import write_tensors
from flax_agnews.strategies.base import Strategy


def write(folder: Path, strategy: Strategy, base: Base, trained: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Writes adapter_config.json and adapter_model.safetensors, whose header says of which body and classes it is.

    Args:
        folder: that they are written to; it exists.
        strategy: that trained.
        base: the body that it trained on.
        trained: path -> array of what trained.
        classes: names, in order.

    Raises:
        UserError: PEFT has no such method, or the files can't be written.
    """
    if strategy.peft is None:
        raise UserError(f"PEFT has no such method as strategy {strategy.name}; export the whole model (--to hf)")
    about = {
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": base.name,
        "inference_mode": True,
        "modules_to_save": ["score"],
    }
    write_json(folder / "adapter_config.json", {**about, **strategy.peft.fields})
    notes = {"base_sha256": base.hash, "classes": json.dumps(list(classes))}
    write_tensors(folder / "adapter_model.safetensors", strategy.peft.tensors(trained), notes)
