"""Writes the model card of an export, its README.md, from the run's records."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from flax_agnews import __version__
from flax_agnews.data import hub
from flax_agnews.data.sources import SOURCES
from flax_agnews.errors import UserError, listed, printable
from flax_agnews.models import parameters
from flax_agnews.runs.output_folder import config_dict
from flax_agnews.runs.result_files import read_results
from flax_agnews.strategies import REGISTRY
from flax_agnews.system.files import write_atomic
from flax_agnews.system.model_names import BUILTIN, is_local, on_hub
from flax_agnews.system.text import counted
from flax_agnews.trained.loading import LoadedRun

_TRAIN = ("epochs", "batch_size", "weight_decay", "weight_decay_mask", "schedule", "warmup_fraction", "clip_norm")


def write_card(run: LoadedRun, folder: Path, use: str, notes: Sequence[str], library: str = "transformers") -> None:
    """Writes README.md.

    Args:
        run: the loaded run.
        folder: the export's folder, which exists.
        use: Python code that loads the export from DIR.
        notes: sentences about using the export, shown as a list.
        library: the library that loads the export, by its name on the hub.
    """
    head = yaml.safe_dump(_metadata(run, library), sort_keys=False, allow_unicode=True)
    hints = "\n".join(f"- {note}" for note in notes)
    made = f"Made by flax_agnews {__version__} from its run `{run.name}`; read again, it gave that run's logits."
    sections = [
        f"---\n{head}---",
        f"# GPT-2 for text classification, fine-tuned by `{run.model.strategy.name}`",
        _method(run),
        f"## Use\n\n```python\n{use}```\n\n`DIR` is this folder, or the name of this repository.\n\n{hints}",
        f"## Data\n\n{_data(run)}",
        f"## Results\n\n{_results(run)}",
        f"## Settings\n\n```yaml\n{_settings(run)}```",
        made,
    ]
    write_atomic(folder / "README.md", ("\n\n".join(sections) + "\n").encode())


def _metadata(run: LoadedRun, library: str) -> dict[str, Any]:
    """The card's metadata for the hub."""
    model, source = run.config.model, run.config.data.source
    hub_data = next(kind for kind in SOURCES if kind.claims(source)) is hub
    tags = ["gpt2", "flax_agnews", run.model.strategy.name]
    fields = {"library_name": library, "pipeline_tag": "text-classification", "tags": tags, "metrics": ["accuracy"]}
    named = model.from_config is None and on_hub(model.name)
    return fields | ({"base_model": model.name} if named else {}) | ({"datasets": [source]} if hub_data else {})


def _method(run: LoadedRun) -> str:
    """A paragraph on the strategy and the body that it started from."""
    adapted, model, config = run.model, run.config.model, run.config
    entry = next((entry for entry in REGISTRY if entry.name == adapted.strategy.name), None)
    paper = f" ([paper]({entry.paper}))" if entry and entry.paper else ""
    what = f"{entry.summary}{paper}" if entry else "a custom strategy"
    size = f"{counted(adapted.base.config.n_layer, 'layer')}, {adapted.base.config.n_embd} wide"
    name = "random weights" if model.from_config is not None else _code(_short(model.name))
    name += " of flax_agnews" if model.from_config is None and model.name == BUILTIN else ""
    first = f", adapted to the training texts by {counted(config.pretrain.epochs, 'epoch')} as a language model"
    trained = parameters.count_numbers(run.trained_shapes)
    return (
        f"What trained: {what}; {trained:,} of {adapted.total_parameters:,} parameters. The body "
        f"began as {name} ({size}){first if config.pretrain.epochs else ''}."
    )


def _data(run: LoadedRun) -> str:
    """A paragraph on the texts: source, number in each split, and classes."""
    try:
        data = read_results(run.output.path).data
        sizes = [(data.train, "training"), (data.validation, "validation"), (data.test, "test")]
    except UserError:  # the results are gone: leave the sizes out
        sizes = []
    names = listed(map(_code, run.classes), 30)
    parted = [f"{number:,} {word}" for number, word in sizes[:-1]]
    parted += [counted(number, f"{word} text") for number, word in sizes[-1:]]
    numbers = f": {', '.join(parted)}" if parted else ""
    columns = " and ".join(map(_code, run.config.data.text_columns))
    source = _code(_short(run.config.data.source))
    return f"{source}{numbers}, by column {columns}. {counted(len(run.classes), 'class')}: {names}."


def _results(run: LoadedRun) -> str:
    """A table with a row for every finished seed of the strategy."""
    rows = ["| seed | best epoch | validation accuracy | test accuracy | test macro-F1 | test loss |"]
    rows.append("|---:|---:|---:|---:|---:|---:|")
    finished = [result for result in run.output.finished([]) if result.strategy == run.result.strategy]
    for result in finished or [run.result]:  # the run's folder may be gone
        this = " (this one)" if result.seed == run.result.seed else ""
        validated = result.val_accuracy[result.best_epoch - 1] if 1 <= result.best_epoch <= result.epochs else None
        scores = " | ".join(map(_score, (validated, result.test_accuracy, result.test_macro_f1, result.test_loss)))
        rows.append(f"| {result.seed}{this} | {result.best_epoch} | {scores} |")
    return "\n".join([*rows, "", "Each seed's best epoch by validation accuracy; the test split chose nothing."])


def _settings(run: LoadedRun) -> str:
    """Settings of strategy and training as YAML, as in a configuration file."""
    every, result = config_dict(run.config), run.result
    known = {
        "strategy": result.strategy,
        result.strategy: dict(run.model.strategy.settings),
        **({} if result.rate_factor is None else {"rate_factor": result.rate_factor}),
        "train": {"seed": result.seed, **{field: every["train"][field] for field in _TRAIN}},
        "data": {field: every["data"][field] for field in ("max_length", "special_tokens")},
        "model": {"dtype": run.config.model.dtype, "precision": run.config.model.precision},
    }
    return yaml.safe_dump(known, sort_keys=False, allow_unicode=True)


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _short(name: str) -> str:
    """A name without local folders: of a path, the last part."""
    return Path(name).name if is_local(name) or Path(name).is_absolute() else name


def _code(name: str) -> str:
    """A name from data or settings as inline code, on one line."""
    return f"`{printable(name).replace('`', chr(39))}`"
