"""Finds the runs of an output folder that were begun or planned, and aren't in its results."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError, listed
from flax_agnews.runs.merged_file import read_merged_file, sections
from flax_agnews.runs.results import Results
from flax_agnews.runs.shards import Shard
from flax_agnews.system.text import counted

Run = tuple[str, int]
"""Strategy and seed of a run."""


def unfinished(folder: Path, results: Results) -> list[str]:
    """Sentences on runs that are missing from results.json; those that stopped at NaN are in `results.diverged`.

    Args:
        folder: an output folder, or a folder of merged results.
        results: the content of its results.json.
    """
    known = {(run.strategy, run.seed) for run in results.runs}
    known |= {run for text in results.diverged if (run := _named(text))}
    done, begun = _on_disk(folder)
    try:
        every, planned = _pairs(planned_runs(folder)), _pairs(own_runs(folder))
    except UserError as error:
        return [f"{error}."]
    groups = {
        "Finished after results.json was written (the same command adds them)": done - known,
        "Begun and not finished": begun - done - known,
        "Planned and not begun": planned - begun - done - known,
    }
    if others := every - planned - done:
        groups[f"Shard {_shard(folder)} of a comparison, to be merged with the others, which train"] = others
    return [f"{what}: {listed(runs_texts(runs), 13)}." for what, runs in groups.items() if runs]


def own_runs(folder: Path) -> dict[str, list[int]]:
    """Those of the planned runs that an output folder's shard trains; all of them where it is no shard.

    Raises:
        UserError: config.yaml or merged.yaml is damaged.
    """
    planned, shard = planned_runs(folder), _shard(folder)
    if shard.whole or not planned:
        return planned
    together = (sections(folder / "config.yaml") or {})["train"].get("parallel_seeds")
    dealt = shard.own(list(planned), next(iter(planned.values())), together if type(together) is int else 1)
    return {name: [seed for group in groups for seed in group] for name, groups in dealt.items()}


def _shard(folder: Path) -> Shard:
    """Which shard of a comparison an output folder's settings ask for."""
    parallel: Any = (sections(folder / "config.yaml") or {}).get("parallel")
    try:
        return Shard.of(str(parallel["shard"]))
    except (KeyError, TypeError, ValueError):  # no shard, or no setting of this version
        return Shard(1, 1)


def _pairs(runs: Mapping[str, Iterable[int]]) -> set[Run]:
    return {(name, seed) for name, seeds in runs.items() for seed in seeds}


def planned_runs(folder: Path) -> dict[str, list[int]]:
    """Strategy -> seeds of the runs that an output folder's settings ask for; empty where nothing says so.

    Raises:
        UserError: config.yaml or merged.yaml is damaged.
    """
    config: Mapping[str, Any] | None = sections(folder / "config.yaml")
    if config is None:
        return merged.planned if (merged := read_merged_file(folder)) else {}
    names, train = config.get("strategy"), config.get("train")
    if not (isinstance(names, str) and isinstance(train, Mapping)):
        return {}
    first, count = train.get("seed"), train.get("runs")
    if not (type(first) is int and type(count) is int and 0 <= count < 10_000):
        return {}
    return {name: [first + k for k in range(count)] for name in names.split(",")}


def runs_texts(runs: Iterable[Run]) -> Iterator[str]:
    """A text for each strategy's runs: `full seed 42`, `lora seeds 42, 43`; `lora seeds 42 to 46` for many."""
    groups: dict[str, list[int]] = {}
    for name, seed in sorted(runs):
        groups.setdefault(name, []).append(seed)
    for name, seeds in groups.items():
        whole = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
        text = f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))
        yield f"{name} {counted(len(seeds), 'seed').split()[1]} {text}"


def _named(text: str) -> Run | None:
    """The run that an entry of `results.diverged` begins with."""
    found = re.match(r"(.+?) seed (\d+) ", f"{text} ")
    return (found[1], int(found[2])) if found else None


def _on_disk(folder: Path) -> tuple[set[Run], set[Run]]:
    """The runs that have a result, and those that were begun."""
    files = [path for path in folder.glob("*/seed-*/*.json") if path.parent.name[5:].isdecimal()]
    runs = [(path.name, (path.parts[-3], int(path.parent.name[5:]))) for path in files]
    done, begun = ({run for name, run in runs if name == file} for file in ("result.json", "identity.json"))
    return done, begun
