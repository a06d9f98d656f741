"""How models are named: a hub id, a directory, or `builtin`, the small GPT-2 that comes with the package."""

from pathlib import Path

from flax_agnews.system.files import expanded

BUILTIN = "builtin"
"""Name of the model that comes with the package; a directory of that name is `./builtin`."""

BUILTIN_FOLDER = Path(__file__).resolve().parents[1] / "models" / "builtin"
"""Where its files are; made by `python -m benchmarks.make_builtin`."""


def is_local(name: str) -> bool:
    """Whether a model's name is a directory rather than a hub id or `builtin`."""
    if name == BUILTIN:
        return False
    return expanded(name).is_dir() or name.startswith((".", "/", "~")) or name.count("/") > 1


def on_hub(name: str) -> bool:
    """Whether a model's name is a hub id."""
    return name != BUILTIN and not is_local(name)


def model_folder(name: str) -> Path:
    """The directory that a model's name means, which needn't exist."""
    return BUILTIN_FOLDER if name == BUILTIN else expanded(name)
