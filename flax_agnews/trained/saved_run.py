"""Saves one run's classifier as a separate output folder, which `Classifier.load` and the commands read."""

from dataclasses import replace
from pathlib import Path

from flax_agnews.errors import UserError
from flax_agnews.runs.output_folder import config_dict
from flax_agnews.runs.recorded_paths import recorded
from flax_agnews.runs.result_files import write_run
from flax_agnews.runs.sealed import whole_folder
from flax_agnews.system.files import check_writable, expanded, write_json, write_yaml
from flax_agnews.trained.finished_run import weights_record
from flax_agnews.trained.loading import LoadedRun
from flax_agnews.training.checkpoint import Store


def save_run(run: LoadedRun, folder: str | Path) -> Path:
    """Writes an output folder with this run alone: settings, tokenizer, best weights, scores.

    The body is saved too where it has frozen weights that started at random or were adapted by language modelling. An
    unchanged body from the hub or a directory is not: loading reads it from there.

    Args:
        run: a finished run.
        folder: an empty folder; created where it is missing.

    Returns:
        The folder, as an absolute path.

    Raises:
        UserError: the folder isn't empty, or can't be written.
    """
    place = expanded(str(folder)).resolve()
    check_writable(place)
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise UserError(f"{place}: is not empty; choose another folder")
    with whole_folder(place) as draft:
        _write(run, draft, place)
    return place


def _write(run: LoadedRun, draft: Path, place: Path) -> None:
    """Writes the folder's files into `draft`, which will be renamed to `place`."""
    result, name, base = run.result, run.result.strategy, run.model.base
    strategies = {key: value for key, value in run.config.strategies.items() if key == name}
    custom = [key for key in run.config.custom if key == name]
    settings = replace(run.config, output=str(place), strategy=name, strategies=strategies, custom=custom)
    run.tokenizer.copy_to(draft / "tokenizer")
    if run.frozen and (settings.model.from_config is not None or settings.pretrain.epochs):
        base.save(draft / "base")
    own = draft / run.name
    write_json(own / "identity.json", dict(run.identity))
    write_run(own / "result.json", result)
    about = weights_record(run.classes, run.tokenizer, base.config)
    Store(own / "checkpoints").save_best(run.params, result.best_epoch, about)
    write_yaml(draft / "config.yaml", recorded(config_dict(settings)))
