"""The model card: README.md of an export, filled from the run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from flax_agnews import __version__
from flax_agnews.data import hub
from flax_agnews.data.sources import SOURCES
from flax_agnews.errors import UserError, listed, printable
from flax_agnews.runs.output_folder import config_dict
from flax_agnews.runs.result_files import read_results
from flax_agnews.strategies import REGISTRY
from flax_agnews.system.files import is_local, write_atomic
from flax_agnews.system.text import counted
from flax_agnews.trained.loading import Parts

_TRAIN = ("epochs", "batch_size", "weight_decay", "weight_decay_mask", "schedule", "warmup_fraction", "clip_norm")


def write_card(parts: Parts, folder: Path, use: str, notes: Sequence[str], library: str = "transformers") -> None:
    """Writes README.md.

    Args:
        parts: of the run.
        folder: that is there.
        use: Python that loads it from DIR.
        notes: what whoever loads it has to know.
        library: that loads it, as the hub calls it.
    """
    head = yaml.safe_dump(_metadata(parts, library), sort_keys=False, allow_unicode=True)
    told = "\n".join(f"- {note}" for note in notes)
    made = f"Made by flax_agnews {__version__} from its run `{parts.name}`; read again, it gave that run's logits."
    sections = [
        f"---\n{head}---",
        f"# GPT-2 for text classification, fine-tuned by `{parts.setup.strategy.name}`",
        _method(parts),
        f"## Use\n\n```python\n{use}```\n\n`DIR` is this folder, or the name of this repository.\n\n{told}",
        f"## Data\n\n{_data(parts)}",
        f"## Results\n\n{_results(parts)}",
        f"## Settings\n\n```yaml\n{_settings(parts)}```",
        made,
    ]
    write_atomic(folder / "README.md", ("\n\n".join(sections) + "\n").encode())


def _metadata(parts: Parts, library: str) -> dict[str, Any]:
    """What the hub reads of a card."""
    model, source = parts.config.model, parts.config.data.source
    on_hub = next(kind for kind in SOURCES if kind.claims(source)) is hub
    tags = ["gpt2", "flax_agnews", parts.setup.strategy.name]
    fields = {"library_name": library, "pipeline_tag": "text-classification", "tags": tags, "metrics": ["accuracy"]}
    named = model.from_config is None and not is_local(model.name)
    return fields | ({"base_model": model.name} if named else {}) | ({"datasets": [source]} if on_hub else {})


def _method(parts: Parts) -> str:
    """What trained, from what."""
    setup, model, config = parts.setup, parts.config.model, parts.config
    entry = next((entry for entry in REGISTRY if entry.name == setup.strategy.name), None)
    paper = f" ([paper]({entry.paper}))" if entry and entry.paper else ""
    what = f"{entry.summary}{paper}" if entry else "a strategy of its own"
    size = f"{counted(setup.base.config.n_layer, 'layer')}, {setup.base.config.n_embd} wide"
    name = "random weights" if model.from_config is not None else _code(_short(model.name))
    first = f", adapted to the training texts by {counted(config.pretrain.epochs, 'epoch')} as a language model"
    return (
        f"What trained: {what}; {setup.trainable_parameters:,} of {setup.total_parameters:,} parameters. The body "
        f"began as {name} ({size}){first if config.pretrain.epochs else ''}."
    )


def _data(parts: Parts) -> str:
    """Which texts, how many, and the classes."""
    try:
        data = read_results(parts.output.path).data
        sizes = [(data.train, "training"), (data.validation, "validation"), (data.test, "test")]
    except UserError:  # the card says less
        sizes = []
    names = listed(map(_code, parts.classes), 30)
    parted = [f"{number:,} {word}" for number, word in sizes[:-1]]
    parted += [counted(number, f"{word} text") for number, word in sizes[-1:]]
    told = f": {', '.join(parted)}" if parted else ""
    columns = " and ".join(map(_code, parts.config.data.text_columns))
    source = _code(_short(parts.config.data.source))
    return f"{source}{told}, by column {columns}. {counted(len(parts.classes), 'class')}: {names}."


def _results(parts: Parts) -> str:
    """A row for every finished seed of the strategy."""
    rows = ["| seed | best epoch | validation accuracy | test accuracy | test macro-F1 | test loss |"]
    rows.append("|---:|---:|---:|---:|---:|---:|")
    for run in (run for run in parts.output.finished([]) if run.strategy == parts.result.strategy):
        this = " (this one)" if run.seed == parts.result.seed else ""
        validated = run.val_accuracy[run.best_epoch - 1] if 1 <= run.best_epoch <= run.epochs else None
        scores = " | ".join(map(_score, (validated, run.test_accuracy, run.test_macro_f1, run.test_loss)))
        rows.append(f"| {run.seed}{this} | {run.best_epoch} | {scores} |")
    return "\n".join([*rows, "", "Each seed's best epoch by validation accuracy; the test split chose nothing."])


def _settings(parts: Parts) -> str:
    """Of strategy and training, as in a configuration file."""
    every, result = config_dict(parts.config), parts.result
    known = {
        "strategy": result.strategy,
        result.strategy: dict(parts.setup.strategy.settings),
        **({} if result.rate_factor is None else {"rate_factor": result.rate_factor}),
        "train": {"seed": result.seed, **{field: every["train"][field] for field in _TRAIN}},
        "data": {field: every["data"][field] for field in ("max_length", "special_tokens")},
        "model": {"dtype": parts.config.model.dtype},
    }
    return yaml.safe_dump(known, sort_keys=False, allow_unicode=True)


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _short(name: str) -> str:
    """A name as others may see it: of a local path, the last part."""
    return Path(name).name if is_local(name) or Path(name).is_absolute() else name


def _code(name: str) -> str:
    """A name from elsewhere, as it stands and on one line."""
    return f"`{printable(name).replace('`', chr(39))}`"
