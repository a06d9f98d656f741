"""Settings of every test: four simulated CPU devices, a compilation cache, no network, no writing to user folders,
annotations of shapes checked.
"""

import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

# XLA aborts where a simulated device waits for others longer than 40 s, as may be where other work has the cores.
_FLAGS = "--xla_force_host_platform_device_count=4 --xla_cpu_collective_call_terminate_timeout_seconds=600"
if os.environ.get("TESTS_OPTIMIZED") != "1":
    # Of a tiny program compiling is the cost, not running: a third of the time without LLVM's passes, XLA's fusion
    # emitters and the splitting of a program for several threads. Programs that compute the same then differ in last
    # bits (`support.exactness`): `.ci/run` repeats what is marked `optimized`, compiled as for users.
    _FLAGS += " --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    _FLAGS += " --xla_cpu_parallel_codegen_split_count=1"
if _FLAGS not in os.environ.get("XLA_FLAGS", ""):  # a worker has them already
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}"
os.environ["JAX_PLATFORMS"] = os.environ.get("TESTS_PLATFORM", "cpu")
if os.environ["JAX_PLATFORMS"] != "cpu":  # bounds are those of float32, which a GPU rounds to TF32 unless asked
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
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
from support.slow_tests import ProcessorTime

# Annotations of shapes are checked at every call; set up before these folders are imported.
CHECKED = [f"flax_agnews.{folder}" for folder in ("models", "strategies", "training")]
install_import_hook(CHECKED, f"{annotations.__name__}.checked")

WORKER_MEMORY = 4 * 2**30  # bytes; the compiled programs of some hundred tests, and PyTorch


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers of `pytest -n auto`: none for one or two files, whose tests would wait for the workers' imports."""
    if given := os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return int(given)
    files = [argument for argument in config.args if Path(argument.split("::")[0]).is_file()]
    if len(files) == len(config.args) <= 2:
        return 0
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(os.cpu_count() or 1, memory // WORKER_MEMORY, 8))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(ProcessorTime())


LONG_FIRST = ["faults", "benchmarks", "contracts", "end_to_end", "training", "experiment", "strategies", "trained"]
"""Folders of long files, which begin first: at the end no worker waits long for another."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        return LONG_FIRST.index(folder) if folder in LONG_FIRST else len(LONG_FIRST)

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Compiled programs are written whole: another worker may read them. Modules are never garbage."""
    gc.freeze()
    if "jax" in sys.modules:
        from flax_agnews.training.jax_setup import keep_whole_programs

        keep_whole_programs()


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["FLAX_AGNEWS_CACHE"], ignore_errors=True)


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
