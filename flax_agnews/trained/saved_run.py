"""Saves one run's classifier as an output folder of its own, which `Classifier.load` and the commands read."""

import shutil
from dataclasses import replace
from pathlib import Path

from flax_agnews.errors import UserError
from flax_agnews.runs.output_folder import config_dict
from flax_agnews.runs.recorded_paths import recorded
from flax_agnews.runs.result_files import write_run
from flax_agnews.runs.sealed import discard
from flax_agnews.system.files import check_writable, draft_of, expanded, move, write_json, write_yaml
from flax_agnews.trained.finished_run import weights_record
from flax_agnews.trained.loading import Parts
from flax_agnews.training.checkpoint import Store


def save_run(parts: Parts, folder: str | Path) -> Path:
    """Writes an output folder with this run alone: settings, tokenizer, best weights, scores.

    The body is in it where nothing else gives its weights again: where they began at random, or were adapted by
    language modelling. A body of a hub id or directory is loaded from there again, unless all of its weights trained.

    Args:
        parts: the run.
        folder: where to; it must be empty, or is made.

    Returns:
        The folder, as an absolute path.

    Raises:
        UserError: the folder holds something, or can't be written.
    """
    place = expanded(str(folder)).resolve()
    check_writable(place)
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise UserError(f"{place}: is not empty; choose another folder")
    draft = draft_of(place)
    try:
        draft.mkdir(parents=True)
        _write(parts, draft, place)
        discard(place)
        move(draft, place)
    except OSError as error:
        raise UserError(f"{place}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place


def _write(parts: Parts, draft: Path, place: Path) -> None:
    """The folder's files into `draft`, which becomes `place`."""
    result, name, base = parts.result, parts.result.strategy, parts.setup.base
    strategies = {key: value for key, value in parts.config.strategies.items() if key == name}
    custom = [key for key in parts.config.custom if key == name]
    settings = replace(parts.config, output=str(place), strategy=name, strategies=strategies, custom=custom)
    parts.tokenizer.copy_to(draft / "tokenizer")
    if parts.frozen and (settings.model.from_config is not None or settings.pretrain.epochs):
        base.save(draft / "base")
    run = draft / parts.name
    write_json(run / "identity.json", dict(parts.identity))
    write_run(run / "result.json", result)
    about = weights_record(parts.classes, parts.tokenizer, base.config)
    Store(run / "checkpoints").save_best(parts.params, result.best_epoch, about)
    write_yaml(draft / "config.yaml", recorded(config_dict(settings)))
