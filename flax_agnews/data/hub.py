"""Reads data sets of the Hugging Face hub through the `datasets` library."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flax_agnews.config import DataConfig
from flax_agnews.data import splits
from flax_agnews.data.arrow import dataset_part
from flax_agnews.data.chunks import whole
from flax_agnews.data.rows import Found, Rows
from flax_agnews.errors import UserError, flag, listed, shown


def claims(source: str) -> bool:
    """True, since this kind of source is tried last: anything else is a hub id."""
    return True


def load(config: DataConfig) -> Found:
    """Reads the configured splits of the hub data set `config.source`; the label column's type has the class names."""
    found = _load_dataset(config.source, config.config)
    chosen = splits.choose(config.source, list(found), config)
    rows = {split: _rows(f"{config.source} {name}", found[name], config) for split, name in chosen.items()}
    return Found(rows, None, splits.notes(chosen), chosen)


def _rows(place: str, dataset: Any, config: DataConfig) -> Rows:
    return whole(place, dataset_part(place, dataset), config.text_columns, config.label_column, None)


def _load_dataset(name: str, config: str | None) -> Any:
    import datasets
    from datasets.exceptions import DatasetNotFoundError, DatasetsError
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        with quiet():
            return datasets.load_dataset(name, config)
    except DatasetNotFoundError as error:
        kinds = f"{flag('data.source')} is a hub id, a local file or folder, or builtin"
        raise UserError(f"{name}: the hub has no such data set, or it is private ({kinds})") from error
    except (DatasetsError, HfHubHTTPError, ValueError, RuntimeError, FileNotFoundError) as error:
        _check_configuration(name, config)
        raise UserError(f"{name} can't be loaded from the hub: {shown(error, most=200)}") from error
    except (ConnectionError, HTTPError) as error:  # HTTPError is that of the hub library's HTTP client
        ways = f"{flag('data.source')} FILE or DIR, or {flag('data.source')} builtin"
        raise UserError(f"{name} is not in the cache and the hub can't be reached. {offline(ways)}") from error
    except OSError as error:
        raise UserError(f"{name} can't be stored: {shown(error, most=200)}") from error


def _check_configuration(name: str, config: str | None) -> None:
    """Raises a `UserError` with the configurations if one must be chosen, or `config` is none of them."""
    import datasets

    try:
        with quiet():
            known = datasets.get_dataset_config_names(name)
    except Exception:  # the caller reports the error of loading
        return
    if config not in known and (config is not None or len(known) > 1):
        given = "" if config is None else f"{flag('data.config')} {config}: "
        raise UserError(
            f"{given}{name} has the configurations {listed(known)}: {flag('data.config')} {known[0]} takes the first"
        )


def offline(ways: str) -> str:
    """Advice for when the hub can't be reached; also mentions HF_HUB_OFFLINE if it is set.

    Args:
        ways: the alternatives, such as `--model.name DIR`.
    """
    from huggingface_hub import constants

    asked = "; or unset HF_HUB_OFFLINE, which keeps it from being asked" if constants.HF_HUB_OFFLINE else ""
    return f"Offline: {ways}{asked}"


@contextmanager
def quiet() -> Iterator[None]:
    """A context that silences the hub libraries' progress bars and retry messages."""
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
