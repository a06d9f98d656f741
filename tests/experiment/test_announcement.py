"""The first lines of an experiment: what float32 means on its devices, and the reason for the number of shapes."""

import io
import math
from types import SimpleNamespace

import pytest
from rich.console import Console

from flax_agnews.config import Config, ModelConfig
from flax_agnews.data.shapes import MOST, Choice
from flax_agnews.experiment.announcement import announce_start, shapes_text
from flax_agnews.system.display import Display
from flax_agnews.training.parallel import Devices


@pytest.mark.parametrize(
    ("number", "choice", "text"),
    [
        (3, None, "3 shapes"),
        (1, Choice(1, 3.02, 0.0), "1 shape, no more would save anything"),
        (MOST, Choice(MOST, 3.02, math.nan), f"{MOST} shapes, the most"),
        (
            2,
            Choice(2, 3.02, 1.25),
            "2 shapes (for each strategy, one more would cost 3.0 s to compile and save 1.2 s of padding)",
        ),
    ],
)
def test_the_number_of_shapes_has_its_reason(number: int, choice: Choice | None, text: str) -> None:
    assert shapes_text(number, choice) == text


H100 = SimpleNamespace(
    platform="gpu",
    process_index=0,
    device_kind="NVIDIA H100",
    compute_capability="9.0",
    client=SimpleNamespace(platform_version="PJRT C API\ncuda 13000"),
)
MI300 = SimpleNamespace(
    platform="gpu", process_index=0, compute_capability="gfx942", client=SimpleNamespace(platform_version="rocm 7")
)
CPU = SimpleNamespace(platform="cpu", process_index=0)


@pytest.mark.parametrize(
    ("device", "model", "said"),
    [
        (CPU, ModelConfig(), "1 x CPU · float32 · "),
        (H100, ModelConfig(), "1 x GPU · float32 (products in TF32) · "),
        (H100, ModelConfig(precision="high"), "1 x GPU · float32 (products in TF32) · "),
        (H100, ModelConfig(precision="highest"), "1 x GPU · float32 · "),
        (H100, ModelConfig(dtype="bfloat16"), "1 x GPU · bfloat16 · "),
        (MI300, ModelConfig(), "1 x GPU · float32 · "),
    ],
)
def test_what_float32_means_is_said(device: SimpleNamespace, model: ModelConfig, said: str) -> None:
    out = io.StringIO()
    announce_start(Display(Console(file=out, width=200)), Config(model=model), [Devices("jit", (device,))])
    assert said in out.getvalue()
