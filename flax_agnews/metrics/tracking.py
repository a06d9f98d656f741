"""Logs metrics, pictures, tables and files to Weights & Biases, where that is turned on."""

import configparser
import netrc
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flax_agnews.config import TrackingConfig
from flax_agnews.errors import UserError, flag
from flax_agnews.metrics.trackers import NullTracker, Tracker
from flax_agnews.metrics.wandb_files import last_row, mend

_PROJECT = "flax_agnews"
_INIT_SECONDS = 5.0  # longest wait for the server before training goes on without it
_FINISH_SECONDS = 10.0  # longest wait for the upload at the end of a run
_NO_KEY = "Weights & Biases is off: no key (wandb login, or --tracking.wandb offline)"
_unreachable: dict[str, str] = {}  # host -> message of its failure; later runs of this process don't try it again


class WandbTracker:
    """Logs to a Weights & Biases run. After its first error, reported in one line, it logs nothing more.

    Args:
        run: a `wandb.Run`.
        note: called with the line that reports the error.
        seen: step (-1 without rows) and metric names (None where they are unknown) of the last row that W&B has of a
            resumed run. W&B accepts each step only once: rows up to this step are left out, and metrics that the last
            row lacks go into the next one.
    """

    def __init__(self, run: Any, note: Callable[[str], None], seen: tuple[int, set[str] | None] = (-1, None)) -> None:
        self._run = run
        self._note = note
        self._seen = seen
        self._step = seen[0] + 1

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Logs metrics by name; those with the same step become one row."""
        last, names = self._seen
        if step <= last:
            lacking = set(metrics) - names if step == last and names is not None else set()
            metrics = {name: value for name, value in metrics.items() if name in lacking}
        if metrics:
            self._step = max(step, last + 1)
            self._safely(lambda run: run.log(dict(metrics), step=self._step))

    def figure(self, name: str, path: Path) -> None:
        """Logs a picture file at the last step."""
        import wandb

        self._safely(lambda run: run.log({name: wandb.Image(str(path))}, step=self._step))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Logs a table at the last step."""
        import wandb

        data = [list(row) for row in rows]
        wandb.Table.MAX_ARTIFACT_ROWS = max(wandb.Table.MAX_ARTIFACT_ROWS, len(data))  # W&B cuts longer ones
        self._safely(lambda run: run.log({name: wandb.Table(list(columns), data)}, step=self._step))

    def files(self, name: str, paths: Sequence[Path]) -> None:
        """Logs files as an artifact of the type `name`; the run's id in its name keeps it apart from other runs'."""
        import wandb

        def act(run: Any) -> None:
            artifact = wandb.Artifact(f"{name}-{run.id}", type=name)
            for path in paths:
                artifact.add_file(str(path))
            run.log_artifact(artifact)

        self._safely(act)

    def finish(self) -> bool:
        """Ends the run; data that aren't uploaded within seconds stay on disk, for `wandb sync`."""
        self._safely(lambda run: run.finish())
        kept, self._run = self._run is not None, None
        return kept

    def _safely(self, act: Callable[[Any], None]) -> None:
        if self._run is None:
            return
        try:
            act(self._run)
        except Exception as error:  # tracking must never end a training run, whatever W&B raises
            self._note(f"{_off(error)} (what was logged is in {Path(self._run.dir).parent}: wandb sync)")
            self._run = None


def check_key(config: TrackingConfig) -> None:
    """Raises a `UserError` for the mode `online` without an API key."""
    if _mode(config) == "online" and not _has_key(host := _host()):
        raise UserError(f"{flag('tracking.wandb')} online: no key for {host}. Run wandb login, or choose offline")


def open_tracker(
    config: TrackingConfig,
    *,
    name: str,
    group: str,
    settings: Mapping[str, Any],
    folder: Path,
    note: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> tuple[Tracker, str | None]:
    """Opens the tracker of one run; returns it with a message for the user, or None.

    It never prompts, and waits for the network a few seconds at most.

    Args:
        config: the mode and the project.
        name: name of the run, such as `full seed 42`.
        group: name shared by the runs of one strategy; WANDB_RUN_GROUP overrides it.
        settings: the run's settings, nested by section.
        folder: the run's folder. W&B writes into `wandb` there; a run that is there already is resumed.
        note: called with one line where W&B fails later, during the run.

    Raises:
        UserError: the mode is `online` without an API key.
    """
    mode = _mode(config)
    host = _host()
    if mode == "disabled":
        return NullTracker(), None
    check_key(config)
    if mode != "offline" and not _has_key(host):
        return NullTracker(), _NO_KEY
    if mode != "offline" and host in _unreachable:
        return NullTracker(), _unreachable[host]
    try:
        group = os.environ.get("WANDB_RUN_GROUP") or group
        run = _start_run(_project(config), name, group, settings, folder, host, mode == "offline")
        seen = _seen(run, folder, mode == "offline")
    except Exception as error:  # tracking must never end a training run, whatever W&B raises
        hint = _off(error)
        if mode != "offline":
            _unreachable[host] = hint
        return NullTracker(), hint
    return WandbTracker(run, note, seen), None if mode == "offline" else f"Weights & Biases: {run.project_url}"


def _start_run(
    project: str, name: str, group: str, config: Mapping[str, Any], folder: Path, host: str, offline: bool
) -> Any:
    """Starts or resumes a `wandb.Run` that prints nothing and captures nothing but the logged metrics."""
    # W&B's background service sends reports of its own errors, even offline, and delays the exit
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    wanted: dict[str, Any] = {
        "silent": True,
        "console": "off",
        "base_url": host,
        "init_timeout": _INIT_SECONDS,
        "finish_timeout": _FINISH_SECONDS,
        "finish_timeout_raises": True,
        "reinit": "create_new",
        "save_code": False,
        "x_save_requirements": False,
        "label_disable": True,
        **dict.fromkeys(["disable_code", "disable_git"], True),
        **dict.fromkeys(["x_disable_meta", "x_disable_machine_info", "x_disable_stats"], True),
    }
    known = wandb.Settings.model_fields  # an unknown setting is an error, and the x_ ones differ between releases
    settings = wandb.Settings(**{key: value for key, value in wanted.items() if key in known})
    wandb.setup(wandb.Settings(silent=True))  # else init prints "loaded credentials" before it reads its settings
    run_id = _run_id(folder)
    mend(folder / "wandb", run_id)
    return wandb.init(
        project=project,
        entity=os.environ.get("WANDB_ENTITY") or None,  # W&B itself reads it only once per process
        name=name,
        group=group,
        config=dict(config),
        dir=str(folder),
        mode="offline" if offline else "online",
        settings=settings,
        id=run_id,
        resume="allow",
    )


def _seen(run: Any, folder: Path, offline: bool) -> tuple[int, set[str] | None]:
    """Step and metric names of a resumed run's last row; online, of the server's last row, which may be earlier."""
    step, names = last_row(folder / "wandb", run.id)
    return (step, names) if offline or step == run.starting_step - 1 else (run.starting_step - 1, None)


def _project(config: TrackingConfig) -> str:
    """The project from the settings, else from WANDB_PROJECT or W&B's own settings, else the default."""
    return config.project or os.environ.get("WANDB_PROJECT") or _wandb_settings().get("project") or _PROJECT


def _mode(config: TrackingConfig) -> str:
    """The mode from the settings; `auto` follows WANDB_DISABLED, `wandb offline` and WANDB_MODE."""
    if config.wandb == "auto" and os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes", "on"):
        return "disabled"
    said = os.environ.get("WANDB_MODE") or _wandb_settings().get("mode", "")
    modes = {"offline": "offline", "dryrun": "offline", "disabled": "disabled"}
    return modes.get(said, "auto") if config.wandb == "auto" else config.wandb


def _host() -> str:
    """The URL of the server that W&B is configured for."""
    said = os.environ.get("WANDB_BASE_URL") or _wandb_settings().get("base_url")
    return (said or "https://api.wandb.ai").rstrip("/")


def _has_key(host: str) -> bool:
    """Whether W&B would find a key; checked without importing `wandb`, which takes a second."""
    keys = (os.environ.get("WANDB_API_KEY"), os.environ.get("WANDB_IDENTITY_TOKEN_FILE"))
    if any(keys) or _wandb_settings().get("api_key"):
        return True
    names = [os.environ.get("NETRC") or "~/.netrc", "~/_netrc"]
    path = next((path for name in names if (path := Path(name).expanduser()).is_file()), None)
    try:
        entry = netrc.netrc(path).authenticators(urlsplit(host).netloc) if path else None
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError):
        return False
    return bool(entry and entry[2])


def _wandb_settings() -> dict[str, str]:
    """W&B's own settings: its global file, overridden by that of the working directory."""
    home = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    local = Path(".wandb" if Path(".wandb").exists() else "wandb")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read([home / "settings", local / "settings"], encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return {}
    return dict(parser["default"]) if parser.has_section("default") else {}


def _run_id(folder: Path) -> str:
    """The W&B run id stored in a run's folder, or a new one, so that a resumed run resumes its W&B run."""
    path = folder / "wandb" / "run-id.txt"
    if not (path.exists() and path.stat().st_size):  # after a full disk it may be empty
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(4), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def _off(error: Exception) -> str:
    """Makes a one-line message from W&B's error."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"Weights & Biases is off: {lines[0][:160]}"
