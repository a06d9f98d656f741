"""How a folder of merged results was made, in `merged.yaml`, which only such a folder has.

A merged folder has no config.yaml, since no experiment goes on in it; this file keeps what a later merge and the list
of unfinished runs need of it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError
from flax_agnews.system.files import read_yaml, settings_from, write_yaml

MERGED = "merged.yaml"


@dataclass(frozen=True, kw_only=True)
class MergedFile:
    """The content of `merged.yaml`.

    Attributes:
        folders: the output folders that were merged, as they were named.
        settings: name of a setting -> its value in all of them; those that aren't in results.json.
        planned: strategy -> seeds of the runs that the folders' settings ask for.
    """

    folders: list[str]
    settings: dict[str, Any] = field(default_factory=dict)
    planned: dict[str, list[int]] = field(default_factory=dict)


def write_merged_file(folder: Path, content: MergedFile) -> None:
    """Writes `folder`/merged.yaml."""
    write_yaml(folder / MERGED, asdict(content))


def read_merged_file(folder: Path) -> MergedFile | None:
    """Reads `folder`/merged.yaml; None if there is none, UserError if it is damaged."""
    if (content := sections(folder / MERGED)) is None:
        return None
    try:
        found = settings_from(MergedFile, content)
        if all(isinstance(seeds, list) and {int} >= set(map(type, seeds)) for seeds in found.planned.values()):
            return found
    except TypeError:
        pass
    raise UserError(f"{folder / MERGED}: is damaged; remove it, and merge the folders again")


def sections(path: Path) -> Mapping[str, Any] | None:
    """Reads a YAML file whose content is a mapping; None if there is none, UserError if it is something else."""
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not YAML ({error})") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: must be a mapping of settings")
    return content
