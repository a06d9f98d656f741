"""A run's checkpoints of made-up states."""

from pathlib import Path

import jax.numpy as jnp
import pytest

from flax_agnews.training.checkpoint import Store


def state(step: int) -> dict[str, jnp.ndarray]:
    return {"params": jnp.arange(12.0).reshape(3, 4) * step, "step": jnp.uint32(step)}


def notes(best: int = 0) -> dict[str, object]:
    return {"best_epoch": best, "history": {"val_loss": [0.1 + 0.2, 1e-30]}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """States after 10 and 20 updates; both count on the weights of epoch 1."""
    told: list[str] = []
    store = Store(tmp_path / "checkpoints", 2, told.append)
    store.save_best({"w": jnp.ones(5)}, 1)
    for step in (10, 20):
        store.save(step, state(step), notes(best=1))
    store.told = told  # type: ignore[attr-defined]
    return store
