"""Merges the results of several output folders: other machines, other seeds, other strategies of the same data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from flax_agnews.errors import UserError, flag, shown
from flax_agnews.report.comparable import FREE, Source, check_comparable, read_source
from flax_agnews.report.unfinished import Run, runs_texts
from flax_agnews.runs.checks_file import CHECKS
from flax_agnews.runs.merged_file import MERGED, MergedFile, write_merged_file
from flax_agnews.runs.predictions import NAME
from flax_agnews.runs.references import FOLDER
from flax_agnews.runs.result_files import write_results
from flax_agnews.runs.results import DataResult, ModelResult, Results, RunResult
from flax_agnews.runs.texts_file import TEXTS
from flax_agnews.system.files import check_writable, expanded, same_file, write_atomic

VERSION = "flax_agnews"
"""Name of the program's version in the environment of a merged run."""

Part = TypeVar("Part", DataResult, ModelResult)


def write_merged(folders: Sequence[Path], output: Path) -> Path:
    """Merges output folders into a new one, from which a report can be written, and which can be merged further.

    It gets results.json, the predictions of runs and references, the texts and the data checks; no checkpoints.

    Args:
        folders: output folders of experiments, or of earlier merges.
        output: the new folder, or one that an earlier merge made.

    Returns:
        The new folder.

    Raises:
        UserError: the results can't be compared, a file of them is damaged, or `output` holds something else.
    """
    output, sources = expanded(str(output)), [read_source(expanded(str(folder))) for folder in folders]
    found = merged(sources)
    _check_output(output, sources)
    names = [str(source.folder) for source in sources]
    planned = {name: _seeds(name, sources) for source in sources for name in source.planned}
    settings = {name: value for source in sources for name, value in source.settings.items()}
    write_merged_file(output, MergedFile(folders=names, settings=settings, planned=planned))
    copies = _copies(found, sources)
    (output / "results.json").unlink(missing_ok=True)  # it is written last, when all that belongs to it is there
    for old in [*output.glob(f"*/seed-*/{NAME}"), *output.glob(f"{FOLDER}/*/*"), output / TEXTS, output / CHECKS]:
        if old.relative_to(output) not in copies:
            old.unlink(missing_ok=True)
    for place, file in copies.items():
        write_atomic(output / place, file.read_bytes())
    write_results(output, found)
    return output


def merged(sources: Sequence[Source]) -> Results:
    """The results of several folders as those of one experiment; a run that several of them have is taken once.

    Each run keeps the environment that it ran in. Settings of training that differ, and may, are left out.

    Raises:
        UserError: the results can't be compared; the error says what differs.
    """
    check_comparable(sources)
    every = [source.results for source in sources]
    runs: dict[Run, RunResult] = {}
    for results in every:
        for run in results.runs:
            own = {**results.environment, **({VERSION: results.flax_agnews} if results.flax_agnews else {})}
            runs.setdefault((run.strategy, run.seed), replace(run, environment=run.environment or own))
    planned = [name for source in sources for name in source.planned]  # a shard's results may lack strategies
    order = list(dict.fromkeys([*planned, *(run.strategy for run in runs.values())]))
    kept = sorted(runs.values(), key=lambda run: (order.index(run.strategy), run.seed))
    environment = environment_of(kept)
    searches = {name: one for results in reversed(every) for name, one in (results.search or {}).items()}
    return Results(
        flax_agnews=environment.pop(VERSION, None),
        data=_filled([results.data for results in every]),
        model=_filled([results.model for results in every]),
        pretrain=next((results.pretrain for results in every if results.pretrain), None),
        environment=environment,
        settings=_common([results.settings for results in every]),
        search=searches or None,
        diverged=list(dict.fromkeys(text for results in every for text in results.diverged)),
        checks=next((results.checks for results in every if results.checks is not None), None),
        runs=kept,
    )


def environment_of(runs: Sequence[RunResult]) -> dict[str, Any]:
    """The environments of merged runs as one: a value of all runs as it is, others with the runs that have them.

    `1 x cpu (full, lora seed 42); 1 x NVIDIA H100 (lora seeds 43, 44)`.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for run in runs for name in run.environment or {}):
        groups: list[tuple[Any, list[RunResult]]] = []
        for run in runs:
            if name in (own := run.environment or {}):
                group = next((group for value, group in groups if value == own[name]), None)
                if group is None:
                    groups.append((own[name], group := []))
                group.append(run)
        several = len(groups) > 1 or len(groups[0][1]) < len(runs)
        found[name] = "; ".join(f"{v} ({_named(of, runs)})" for v, of in groups) if several else groups[0][0]
    return found


def _named(group: Iterable[RunResult], every: Iterable[RunResult]) -> str:
    """The runs of a group: a strategy's name alone where all of its runs are in it."""
    inside = {(run.strategy, run.seed) for run in group}
    outside = {run.strategy for run in every if (run.strategy, run.seed) not in inside}
    whole = list(dict.fromkeys(name for name, _ in sorted(inside) if name not in outside))
    return ", ".join([*whole, *runs_texts(run for run in inside if run[0] in outside)])


def _filled(parts: Sequence[Part]) -> Part:
    """The first part, with what it doesn't know from the others."""
    known = [{f.name: value for f in fields(part) if (value := getattr(part, f.name)) is not None} for part in parts]
    return replace(parts[0], **{name: value for one in reversed(known) for name, value in one.items()})


def _common(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, *others = settings
    free = {name for name in FREE if any(name not in one or one[name] != first.get(name) for one in others)}
    return {name: value for name, value in first.items() if name not in free}


def _seeds(name: str, sources: Sequence[Source]) -> list[int]:
    return sorted({seed for source in sources for seed in source.planned.get(name, ())})


def _copies(results: Results, sources: Sequence[Source]) -> dict[Path, Path]:
    """Place in the new folder -> file that is copied there."""
    found: dict[Path, Path] = {}
    for run in results.runs:
        place = Path(run.strategy) / f"seed-{run.seed}" / NAME
        if holder := next((one for one in sources if (run.strategy, run.seed) in one.predictions), None):
            found[place] = holder.folder / place
    for source in reversed(sources):
        files = [*source.folder.glob(f"{FOLDER}/*/*"), source.folder / TEXTS, source.folder / CHECKS]
        found |= {file.relative_to(source.folder): file for file in files if file.is_file()}
    return found


def _check_output(output: Path, sources: Sequence[Source]) -> None:
    """Raises a `UserError` unless results can be merged into a folder."""
    place = f"{flag('output')} {output}"
    if any(same_file(output, source.folder) for source in sources):
        raise UserError(f"{place}: is one of the merged folders; name another one")
    try:
        if output.exists() and any(output.iterdir()) and not (output / MERGED).exists():
            raise UserError(f"{place}: holds something else than merged results; name a new folder")
    except OSError as error:
        raise UserError(f"{place}: is no folder that can be read ({error.strerror})") from None
    if (output / "config.yaml").exists():
        raise UserError(f"{place}: is the folder of an experiment; name a new folder")
    for name in {run.strategy for source in sources for run in source.results.runs}:
        if name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
            raise UserError(f"strategy {shown(repr(name))}: is no name of a folder")
    check_writable(output / "results.json", flag("output"))
