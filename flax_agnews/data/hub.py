"""Data sets of the Hugging Face hub, through the `datasets` library."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flax_agnews.config import DataConfig
from flax_agnews.data.rows import Found, Rows, check_columns, side_by_side
from flax_agnews.errors import UserError, listed, shown


def claims(source: str) -> bool:
    """Whatever nothing before it has claimed is a hub id."""
    return True


def load(config: DataConfig) -> Found:
    """The splits train, test and (where there is one) validation of the hub data set `config.source`."""
    from datasets import ClassLabel

    splits = _load_dataset(config.source)
    for split in ("train", "test"):
        if split not in splits:
            raise UserError(f"{config.source} has the splits {listed(splits)}: train and test are needed")
    used = [split for split in ("train", "validation", "test") if split in splits]
    rows = {split: _rows(splits[split], f"{config.source} {split}", config) for split in used}
    feature = splits["train"].features[config.label_column]
    return Found(rows, list(feature.names) if isinstance(feature, ClassLabel) else None)


def _rows(dataset: Any, place: str, config: DataConfig) -> Rows:
    check_columns(config, config.source, dataset.column_names)
    columns = dataset.select_columns([*config.text_columns, config.label_column])[:]
    texts = side_by_side([columns[column] for column in config.text_columns])
    return Rows(place, texts, columns[config.label_column], range(1, len(dataset) + 1))


def _load_dataset(name: str) -> Any:
    import datasets
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        with quiet():
            return datasets.load_dataset(name)
    except DatasetNotFoundError as error:
        kinds = "--data.source is a hub id, a local file or folder, or builtin"
        raise UserError(f"{name}: the hub has no such data set, or it is private ({kinds})") from error
    except (DatasetsError, HfHubHTTPError, ValueError, RuntimeError, FileNotFoundError) as error:
        raise UserError(f"{name} can't be loaded from the hub: {shown(error, most=200)}") from error
    except (ConnectionError, HTTPError) as error:  # HTTPError: whichever HTTP client the hub's library uses
        offline = "Offline: --data.source DIR, or --config configs/quickstart.yaml"
        raise UserError(f"{name} is not in the cache and the hub can't be reached. {offline}") from error
    except OSError as error:
        raise UserError(f"{name} can't be stored: {shown(error, most=200)}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the hub libraries' bars and retry messages: the caller has a display of its own."""
    import datasets.utils as datasets_utils
    import huggingface_hub.utils as hub_utils

    libraries: tuple[Any, ...] = (datasets_utils, hub_utils)
    levels = [library.logging.get_verbosity() for library in libraries]
    with_bars = [library for library in libraries if not library.are_progress_bars_disabled()]
    for library in libraries:
        library.logging.set_verbosity_error()
    for library in with_bars:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.logging.set_verbosity(level)
        for library in with_bars:
            library.enable_progress_bars()
