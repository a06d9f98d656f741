"""The package as people install it: a wheel, in an environment and a folder that have nothing else of it."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from flax_agnews.system.model_names import BUILTIN_FOLDER

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.long


def run(*command: object, cwd: Path, **environment: str) -> str:
    """The output of a command that must succeed."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "flax_agnews", folder / "flax_agnews", ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--quiet", cwd=folder)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment with the wheel, and the dependencies of the running one."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=True)
    bin_folder = home / ("Scripts" if os.name == "nt" else "bin")
    run(bin_folder / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=home)
    paths = {"base": str(home), "platbase": str(home)}
    own = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    # After the environment's own folder: the wheel wins over the package that is developed.
    dependencies = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (own / "dependencies.pth").write_text("".join(f"{path}\n" for path in dict.fromkeys(dependencies)))
    where = run(bin_folder / "python", "-c", "import flax_agnews; print(flax_agnews.__file__)", cwd=home)
    assert Path(where.strip()).is_relative_to(home)
    return bin_folder


def test_the_wheel_has_the_configurations_the_body_and_the_mark_of_types(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    assert "flax_agnews/py.typed" in names
    shipped = {f"flax_agnews/configs/{file.name}" for file in (ROOT / "flax_agnews" / "configs").glob("*.yaml")}
    assert len(shipped) == 3
    body = {f"flax_agnews/models/builtin/{file.name}" for file in BUILTIN_FOLDER.iterdir()}
    assert {Path(name).name for name in body} >= {"config.json", "model.safetensors", "tokenizer.json", "made.json"}
    assert shipped | body <= names
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"flax_agnews"}


def test_the_commands_run_in_an_empty_folder(scripts: Path, tmp_path: Path) -> None:
    folder, command = tmp_path / "empty", scripts / "flax-agnews"
    folder.mkdir()
    text = run(command, "--help", cwd=folder)
    assert text.startswith("usage: flax-agnews COMMAND")
    assert len(text.splitlines()) <= 60
    assert run(command, "--version", cwd=folder).startswith("flax-agnews ")
    assert len(run(command, "train", "--help", cwd=folder).splitlines()) <= 60
    places = {"HOME": str(tmp_path / "home"), "FLAX_AGNEWS_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu"}
    run(command, "train", "--config", "smoke", cwd=folder, **places)
    output = folder / "runs" / "smoke"
    assert len(json.loads((output / "results.json").read_text())["runs"]) == 6
    assert (output / "accuracy_curves.png").stat().st_size > 0
    assert sorted(path.name for path in folder.iterdir()) == ["runs"]
    answer = run(command, "predict", "runs/smoke", "--text", "The striker scored twice.", cwd=folder, **places)
    assert len(answer.splitlines()) == 1
    run(command, "report", "runs/smoke", cwd=folder, **places)
    run(command, "describe", "--config", "smoke", cwd=folder, **places)
    run(command, "describe", "--model.name", "builtin", cwd=folder, **places)
