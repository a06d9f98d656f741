"""The real Weights & Biases client: offline, without a key, with an unreachable server, and with one that dies."""

import http.server
import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from support.wandb_records import wait_for_end, wandb_history, wandb_records

from flax_agnews.config import TrackingConfig
from flax_agnews.errors import UserError
from flax_agnews.metrics import tracking
from flax_agnews.metrics.tracking import NullTracker, WandbTracker, open_tracker

# --- metrics.jsonl


# --- Weights & Biases


@pytest.fixture
def clean(tmp_path, monkeypatch):
    """No key, no settings file, and a folder of our own as the working directory."""
    for name in [name for name in os.environ if name.startswith("WANDB") or name == "NETRC"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "_unreachable", {})
    return monkeypatch


def _open(folder: Path, mode: str, **more):
    settings = {"train": {"epochs": 2}}
    config = TrackingConfig(wandb=mode, project="agnews")
    return open_tracker(config, name="full-seed-42", group="runs", settings=settings, folder=folder, **more)


def test_offline_writes_every_metric_into_the_folder(clean, tmp_path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1))
    figure.savefig(tmp_path / "curves.png")
    folder = tmp_path / "full-seed-42"
    tracker, hint = _open(folder, "offline")
    assert hint is None
    for step in range(4):
        tracker.log({"batch/train_loss": 1 / (step + 1)}, step)
        if step % 2:
            epoch = {"train/loss": 0.5, "train/accuracy": 0.8, "val/loss": 0.6, "val/accuracy": 0.7}
            tracker.log({**epoch, "epoch_time": 2.0 + step}, step)
    tracker.log({"test/loss": 0.4, "test/accuracy": 0.9, "total_train_time": 12.0}, 3)
    tracker.table("results", ["strategy", "accuracy"], [["full", 0.9]])
    tracker.figure("accuracy_curves", tmp_path / "curves.png")
    tracker.finish()

    [path] = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    wait_for_end(path)
    rows = wandb_history(path)
    assert [row["_step"] for row in rows] == [0, 1, 2, 3]
    assert [row["batch/train_loss"] for row in rows] == [1 / (step + 1) for step in range(4)]
    assert [row.get("epoch_time") for row in rows] == [None, 3.0, None, 5.0]
    last = {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "test/loss", "test/accuracy"}
    assert last | {"total_train_time", "results", "accuracy_curves"} <= rows[3].keys()
    [table] = path.parent.glob("files/media/table/results*.json")
    assert json.loads(table.read_text())["data"] == [["full", 0.9]]
    assert len(list(path.parent.glob("files/media/images/accuracy_curves*.png"))) == 1
    [run] = [record.run for record in wandb_records(path) if record.WhichOneof("record_type") == "run"]
    assert (run.project, run.run_group, run.display_name) == ("agnews", "runs", "full-seed-42")
    assert json.loads({item.key: item.value_json for item in run.config.update}["train"]) == {"epochs": 2}
    captured = {file.name for file in (path.parent / "files").rglob("*") if file.is_file()}
    assert not captured & {"requirements.txt", "output.log", "diff.patch", "wandb-metadata.json"}


def test_auto_without_a_key_is_off_and_says_how_to_have_it(clean, tmp_path):
    started = time.monotonic()
    tracker, hint = _open(tmp_path / "run", "auto")
    assert time.monotonic() - started < 1
    assert isinstance(tracker, NullTracker)
    assert hint == "Weights & Biases is off: no key (wandb login, or --tracking.wandb offline)"
    tracker.log({"a": 1.0}, 0)
    tracker.table("t", ["a"], [[1]])
    tracker.figure("f", tmp_path / "none.png")
    tracker.finish()
    assert not (tmp_path / "run").exists()


def test_online_without_a_key_is_one_line(clean, tmp_path):
    with pytest.raises(UserError, match=r"^tracking\.wandb online: no key for https://\S+\. Run wandb login"):
        _open(tmp_path, "online")


def test_disabled_ignores_a_key(clean, tmp_path):
    clean.setenv("WANDB_API_KEY", "k" * 40)
    tracker, hint = _open(tmp_path / "run", "disabled")
    assert isinstance(tracker, NullTracker)
    assert hint is None


@pytest.mark.parametrize("word", ["offline", "dryrun", "disabled"])
def test_auto_obeys_what_wandb_was_told(clean, tmp_path, word):
    clean.setenv("WANDB_MODE", word)
    tracker, hint = _open(tmp_path / "run", "auto")
    assert hint is None
    assert isinstance(tracker, NullTracker if word == "disabled" else WandbTracker)
    tracker.finish()


def _begun(folder: Path):
    """The record with which W&B begins the only run in a folder; its process writes it a moment later."""
    [path] = folder.glob("wandb/offline-run-*/run-*.wandb")
    end = time.monotonic() + 20
    while not (runs := [record.run for record in wandb_records(path) if record.WhichOneof("record_type") == "run"]):
        assert time.monotonic() < end
        time.sleep(0.02)
    return runs[0]


@pytest.mark.parametrize("word", ["true", "1", "YES", "on"])
def test_wandb_disabled_is_obeyed_unless_something_is_asked_for(clean, tmp_path, word):
    """The words are those of transformers, which reads the variable too."""
    from transformers.utils import ENV_VARS_TRUE_VALUES

    assert word.upper() in ENV_VARS_TRUE_VALUES
    clean.setenv("WANDB_DISABLED", word)
    clean.setenv("WANDB_MODE", "offline")
    tracker, hint = _open(tmp_path / "run", "auto")
    assert isinstance(tracker, NullTracker)
    assert hint is None
    clean.setenv("WANDB_MODE", "disabled")
    _open(tmp_path / "run", "offline")[0].finish()
    assert _begun(tmp_path / "run").display_name == "full-seed-42"
    with pytest.raises(UserError, match=r"^tracking\.wandb online: no key"):
        _open(tmp_path, "online")


@pytest.mark.parametrize("word", ["false", "0", ""])
def test_wandb_that_is_not_disabled(clean, tmp_path, word):
    clean.setenv("WANDB_DISABLED", word)
    clean.setenv("WANDB_MODE", "offline")
    _open(tmp_path / "run", "auto")[0].finish()
    assert _begun(tmp_path / "run").project == "agnews"


def test_the_project_is_the_one_asked_for_then_the_environments_then_the_settings(clean, tmp_path):
    def project(name, asked):
        config = TrackingConfig(wandb="offline", project=asked)
        open_tracker(config, name="a", group="b", settings={}, folder=tmp_path / name)[0].finish()
        return _begun(tmp_path / name).project

    assert project("default", None) == "flax_agnews"
    path = tmp_path / ".config" / "wandb" / "settings"
    path.parent.mkdir(parents=True)
    path.write_text("[default]\nproject = of-settings\n")
    assert project("settings", None) == "of-settings"
    clean.setenv("WANDB_PROJECT", "of-environment")
    assert project("environment", None) == "of-environment"
    assert project("asked", "of-flag") == "of-flag"


def test_entity_and_group_of_the_environment(clean, tmp_path):
    clean.setenv("WANDB_ENTITY", "team")
    clean.setenv("WANDB_RUN_GROUP", "sweep 3")
    clean.setenv("WANDB_RUN_ID", "same-for-all")  # of no use where there are many runs
    _open(tmp_path / "run", "offline")[0].finish()
    run = _begun(tmp_path / "run")
    assert (run.entity, run.run_group) == ("team", "sweep 3")
    assert run.run_id == (tmp_path / "run" / "wandb" / "run-id.txt").read_text()


def test_an_empty_id_is_made_anew(clean, tmp_path):
    path = tmp_path / "run" / "wandb" / "run-id.txt"
    path.parent.mkdir(parents=True)
    path.write_text("")
    _open(tmp_path / "run", "offline")[0].finish()
    assert path.read_text()
    assert _begun(tmp_path / "run").run_id == path.read_text()


def _key_in_netrc(home: Path, host: str, monkeypatch) -> None:
    (home / ".netrc").write_text(f"machine {host}\n  login user\n  password {'k' * 40}\n")
    (home / ".netrc").chmod(0o600)


def _key_in_named_netrc(home: Path, host: str, monkeypatch) -> None:
    (home / "other").write_text(f"machine {host} login user password {'k' * 40}\n")
    monkeypatch.setenv("NETRC", str(home / "other"))


def _key_in_environment(home: Path, host: str, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)


def _key_in_settings(home: Path, host: str, monkeypatch) -> None:
    path = home / ".config" / "wandb" / "settings"
    path.parent.mkdir(parents=True)
    path.write_text(f"[default]\napi_key = {'k' * 40}\n")


@pytest.mark.parametrize(
    "put",
    [_key_in_netrc, _key_in_named_netrc, _key_in_environment, _key_in_settings],
    ids=lambda put: put.__name__,
)
def test_a_key_is_found_where_wandb_finds_it(clean, tmp_path, put):
    import wandb
    from wandb.sdk.lib import wbauth

    host = "https://wandb.example.org:8443"
    clean.setenv("WANDB_BASE_URL", host)
    assert not tracking._has_key(tracking._host())
    put(tmp_path, "wandb.example.org:8443", clean)
    assert tracking._has_key(tracking._host())
    assert tracking._has_key("https://elsewhere.example.org") == (put in (_key_in_environment, _key_in_settings))
    wandb.teardown()  # it reads its settings once a session
    found = wbauth.authenticate_session(host=host, source="test", prompt=False, update_session=False)
    assert found is not None
    wandb.teardown()


def test_broken_netrc_and_settings_are_no_key(clean, tmp_path):
    (tmp_path / ".netrc").write_text("machine\n")
    _key_in_settings(tmp_path, "", clean)
    (tmp_path / ".config" / "wandb" / "settings").write_text("api_key without a section\n")
    tracker, hint = _open(tmp_path / "run", "auto")
    assert isinstance(tracker, NullTracker)
    assert "no key" in (hint or "")


def test_an_unreachable_server_costs_seconds_once(clean, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        clean.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
    clean.setenv("WANDB_API_KEY", "k" * 40)
    clean.setattr(tracking, "_INIT_SECONDS", 2.0)
    started = time.monotonic()
    tracker, hint = _open(tmp_path / "run", "online")
    first = time.monotonic() - started
    assert first < 8
    assert isinstance(tracker, NullTracker)
    assert (hint or "").startswith("Weights & Biases is off: ")
    assert "\n" not in (hint or "")
    tracker.log({"batch/train_loss": 1.0}, 0)

    started = time.monotonic()
    assert _open(tmp_path / "next", "auto")[1] == hint
    assert time.monotonic() - started < 0.5


class _Server(http.server.ThreadingHTTPServer):
    """A loopback server that lets a run begin, and then, `dead`, answers nothing more."""

    daemon_threads = True

    def __init__(self) -> None:
        self.dead = threading.Event()
        self.over = threading.Event()
        self.ids: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.dead.is_set():
            self.server.over.wait()
            return
        query, data = request.get("query", ""), {}
        if "upsertBucket" in query:
            name = request["variables"]["name"]
            self.server.ids.append(name)
            project = {"id": "p", "name": "agnews", "entity": {"id": "e", "name": "team"}}
            bucket = {"id": "r", "name": name, "displayName": name, "config": "{}", "project": project}
            data = {"upsertBucket": {"bucket": {**bucket, "historyLineCount": 0}, "inserted": True}}
        elif "ResumeStatus" not in query:  # "is there such a run?": no
            self.send_error(400)
            return
        answer = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server():
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def test_a_server_that_dies_while_running_costs_one_line(clean, tmp_path, server):
    clean.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    clean.setenv("WANDB_API_KEY", "k" * 40)
    clean.setattr(tracking, "_FINISH_SECONDS", 2.0)
    notes: list[str] = []
    tracker, hint = _open(tmp_path / "run", "auto", note=notes.append)
    assert isinstance(tracker, WandbTracker)
    assert hint == f"Weights & Biases: http://127.0.0.1:{server.server_port}/team/agnews"
    server.dead.set()
    started = time.monotonic()
    for step in range(100):
        tracker.log({"batch/train_loss": 1.0}, step)
    assert time.monotonic() - started < 1
    tracker.finish()
    assert time.monotonic() - started < 8
    assert len(notes) == 1
    assert notes[0].startswith("Weights & Biases is off: ")
    [written] = (tmp_path / "run").glob("wandb/run-*-*")
    assert f"{written}: wandb sync" in notes[0]
    tracker.log({"batch/train_loss": 1.0}, 100)
    tracker.finish()
    assert len(notes) == 1
    server.dead.clear()  # a resumed run goes on under its own id, another folder has another
    for folder in ("run", "other"):
        _open(tmp_path / folder, "online")[0].finish()
    ids = [name for place, name in enumerate(server.ids) if name not in server.ids[:place]]
    assert len(ids) == 2


def test_an_error_while_logging_ends_tracking_not_training(clean, tmp_path):
    notes: list[str] = []
    tracker, _ = _open(tmp_path / "run", "offline", note=notes.append)
    tracker.figure("accuracy_curves", tmp_path / "missing.png")
    assert len(notes) == 1
    assert notes[0].startswith("Weights & Biases is off: ")
    assert "\n" not in notes[0]
    tracker.log({"a": 1.0}, 0)
    tracker.finish()
    assert len(notes) == 1
