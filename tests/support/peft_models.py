"""PEFT's logits of each text."""

from collections.abc import Sequence

import numpy as np
import torch
from peft import PeftModel


def logits_of(model: PeftModel, texts: Sequence[np.ndarray], side: str = "right") -> np.ndarray:
    """PEFT's, of one batch: shorter texts are padded on this side."""
    longest = max(map(len, texts))
    gaps = [(0, longest - len(ids)) if side == "right" else (longest - len(ids), 0) for ids in texts]
    ids = torch.tensor(np.array([np.pad(text, gap) for text, gap in zip(texts, gaps, strict=True)]))
    mask = (ids != 0).long()
    with torch.no_grad():
        try:
            return model(input_ids=ids, attention_mask=mask).logits.numpy()
        except ValueError as error:
            # Newer versions of transformers call `past_key_values` `cache`, and PEFT 0.21 doesn't find it.
            if "does not support past key values" not in str(error):
                raise
            tokens = model.active_peft_config.num_virtual_tokens
            mask = torch.cat([torch.ones(len(ids), tokens, dtype=torch.long), mask], dim=1)
            given = model.get_prompt(len(ids))
            return model.base_model(input_ids=ids, attention_mask=mask, cache=given).logits.numpy()
