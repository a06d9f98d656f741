"""Settings of every test: four simulated CPU devices, a compilation cache, no network, no writing to user folders,
annotations of shapes checked.
"""

import os
import tempfile
from pathlib import Path

# XLA aborts where a simulated device waits for others longer than 40 s, as may be where other work has the cores.
_FLAGS = "--xla_force_host_platform_device_count=4 --xla_cpu_collective_call_terminate_timeout_seconds=600"
# Of a tiny program compiling is the cost, not running: a third of the time with LLVM's passes and fusion emitters off.
_FLAGS += " --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}"
os.environ["JAX_PLATFORMS"] = "cpu"
CACHE = Path(__file__).resolve().parents[1] / ".jax_cache"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)  # subprocesses share it
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["FLAX_AGNEWS_CACHE"] = tempfile.mkdtemp(prefix="flax_agnews-tests-")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
os.environ["WANDB_MODE"] = "disabled"
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from jaxtyping import install_import_hook
from support import annotations

# Annotations of shapes are checked at every call; set up before these folders are imported.
CHECKED = [f"flax_agnews.{folder}" for folder in ("models", "strategies", "training")]
install_import_hook(CHECKED, f"{annotations.__name__}.checked")

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data; tests that need it skip where a clone has none."""
    if not SHARED.is_dir():
        pytest.skip("the folder ../shared with real data isn't here")
    return SHARED.resolve()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a finished small experiment; tests leave it as it is."""
    from support import small_experiments

    output = tmp_path_factory.mktemp("trained") / "out"
    small_experiments.trained(output)
    return output
