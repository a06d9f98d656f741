"""The configuration files that are part of the package: `--config NAME` finds them from any working directory."""

from collections.abc import Sequence
from pathlib import Path

from flax_agnews.errors import UserError, close_names, nearest
from flax_agnews.system.files import expanded

FOLDER = Path(__file__).resolve().parents[1] / "configs"

NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))


def with_paths(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments in which `--config NAME` is replaced by the path of that named configuration."""
    made: list[str] = []
    for argument in arguments:
        if made and made[-1] == "--config":
            made.append(str(config_path(argument)))
        elif argument.startswith("--config="):
            made.append(f"--config={config_path(argument.removeprefix('--config='))}")
        else:
            made.append(argument)
    return made


def config_path(given: str) -> Path:
    """The file of a named configuration, or `given` as a path.

    Raises:
        UserError: there is no such file; the message suggests similar named configurations.
    """
    if given in NAMES:
        return FOLDER / f"{given}.yaml"
    path = expanded(given)
    if path.exists() or path.is_symlink():
        return path
    if path.stem in NAMES and path.parent.name == FOLDER.name:
        raise UserError(f"--config {path}: no such file; named configurations: --config {path.stem}")
    if Path(given).name == given and not path.suffix:
        near = nearest(given, NAMES) if close_names(given, NAMES) else ""
        listed = f"Named configurations: {', '.join(NAMES)}"
        raise UserError(f"--config {given}: no such file or named configuration.{near} {listed}")
    raise UserError(f"--config {path}: no such file")
