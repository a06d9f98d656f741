"""Contract 9 in bfloat16: 20 steps have PyTorch's losses, as near as PyTorch's own autocast comes to its float32."""

from typing import Any

import numpy as np
import pytest
import torch
from support.computes import ON_CPU, ON_GPU, ON_GPU_IN_ROWS
from support.parity import RATES, adamw, body, comparison, rows_of, texts
from transformers import GPT2Model

from flax_agnews.data.encoded import Split
from flax_agnews.models.pretrained import Base

__all__ = ["body", "texts"]  # fixtures

STEPS = 20


def of_pytorch(name: str, body: tuple[GPT2Model, Base], texts: Split, autocast: bool) -> list[float]:
    """Losses of PyTorch's steps, in float32 or by its autocast to bfloat16."""
    program, _, _, reference = comparison(name, body, texts)
    optimizer = adamw(name, {path: p for path, p in reference.by_path().items() if p.requires_grad})
    found = []
    for step in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = reference.loss(*rows_of(program, texts, step))
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def of_ours(name: str, body: tuple[GPT2Model, Base], texts: Split, compute: Any) -> list[float]:
    """Losses of our steps."""
    program, state, frozen, _ = comparison(name, body, texts, compute)
    found = []
    for step in range(STEPS):
        state, metrics = program.train_step(state, frozen, 0, *divmod(step, program.batches.steps_per_epoch))
        found.append(float(metrics["loss"] / metrics["weight"]))
    return found


@pytest.mark.optimized
@pytest.mark.parametrize("name", RATES)
def test_losses_are_as_near_to_float32_as_those_of_autocast(
    name: str, body: tuple[GPT2Model, Base], texts: Split
) -> None:
    """By the root mean square over the steps, twice as far is allowed: both round operands and results to the same
    eight bits, at different places, so that their errors are two samples of the same size.
    """
    exact = np.array(of_pytorch(name, body, texts, autocast=False))
    theirs = np.sqrt(np.square(of_pytorch(name, body, texts, autocast=True) - exact).mean())
    assert theirs > 0
    for compute in (ON_CPU, ON_GPU, ON_GPU_IN_ROWS):
        ours = np.sqrt(np.square(of_ours(name, body, texts, compute) - exact).mean())
        assert 0 < ours <= 2 * theirs, compute
