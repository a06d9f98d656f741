"""Model and data from the hub, by default: commands in processes of their own against a stand-in hub on loopback."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.hub_standin import (
    AG_NEWS_LABELS,
    HubStandIn,
    client_environment,
    make_ag_news_repository,
    make_gpt2_repository,
    unreachable_url,
)
from support.small_experiments import results, settings, start, without_cost

from flax_agnews.config import DataConfig, ModelConfig
from flax_agnews.data import builtin
from flax_agnews.models.pretrained import load_base

# Everything else is as it comes: gpt2, fancyzhx/ag_news, three strategies, 5 epochs, 256 tokens, 20 soft ones.
LIMITS = ("--data.limit_train", "60", "--data.limit_test", "30", "--train.runs", "1", "--parallel.devices", "1")
SECONDS = 240  # three strategies compile, on a busy machine

# runs the command with each list of arguments in turn; tells code, output and errors of each
MAIN = """
import contextlib, io, json, sys
from flax_agnews.main import main
told = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    told.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(told))
"""


class Served(NamedTuple):
    hub: HubStandIn
    model: Path
    home: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A hub with a tiny gpt2 and a small AG News of generated texts; `home` keeps the clients' caches."""
    folder = tmp_path_factory.mktemp("hub")
    splits = builtin.load(DataConfig(limit_train=200, limit_test=60)).splits
    rows = {name: list(zip(splits[name].texts[:200], splits[name].labels[:200], strict=True)) for name in splits}
    data = make_ag_news_repository(folder / "ag_news", rows["train"], rows["test"])
    model = make_gpt2_repository(folder / "gpt2", [text for text, _ in rows["train"]], n_positions=276)
    with HubStandIn({"gpt2": model}, {"fancyzhx/ag_news": data}) as hub:
        yield Served(hub, model, folder / "home")


def _finish(environment: dict[str, str], output: Path, *flags: str) -> Path:
    process = start([*LIMITS, "--output", str(output), *flags], environment)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, out + err
    return output


@pytest.fixture(scope="module", autouse=True)
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, "subprocess.Popen[str]"]]:
    """What is asked for -> the command that can't reach it; the clients try for half a minute, meanwhile others run."""
    folder = tmp_path_factory.mktemp("unreachable")
    environment, flags = client_environment(unreachable_url(), folder), ["--output", str(folder / "out")]
    commands = {"gpt2": [*flags, "--data.source", "builtin"], "fancyzhx/ag_news": flags}
    processes = {name: start(command, environment) for name, command in commands.items()}
    yield processes
    for process in processes.values():
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def online(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _finish(client_environment(served.hub.url, served.home), tmp_path_factory.mktemp("online") / "out")


def test_no_flags_but_limits_run_the_original_experiment(served: Served, online: Path) -> None:
    found = results(online)
    assert [run["strategy"] for run in found["runs"]] == ["full", "prompt", "partial"]
    assert found["data"]["source"] == "fancyzhx/ag_news"
    assert found["data"]["classes"] == list(AG_NEWS_LABELS)
    assert (found["data"]["train"], found["data"]["validation"], found["data"]["test"]) == (54, 6, 30)
    assert all(len(run["val_accuracy"]) == 5 for run in found["runs"])
    report = (online / "report.md").read_text()
    assert all(name in report for name in AG_NEWS_LABELS)
    config = settings(online)
    assert (config["model"]["name"], config["data"]["max_length"], config["prompt"]["tokens"]) == ("gpt2", 256, 20)
    requests = "\n".join(served.hub.requests)
    assert "/gpt2/resolve/main/model.safetensors" in requests
    assert "/datasets/fancyzhx/ag_news/" in requests


def test_the_body_is_the_hubs(served: Served, online: Path) -> None:
    model = results(online)["model"]
    assert model["name"] == "gpt2"
    assert model["base"] == load_base(ModelConfig(name=str(served.model))).hash
    assert not (online / "base").exists()  # its name gives it again


def test_offline_the_cache_is_enough(served: Served, online: Path, tmp_path: Path) -> None:
    before = len(served.hub.requests)
    environment = client_environment(served.hub.url, served.home, HF_HUB_OFFLINE="1")
    again = _finish(environment, tmp_path / "out", "--strategy", "full")
    assert len(served.hub.requests) == before
    first, second = without_cost(results(online)), without_cost(results(again))
    assert second["runs"] == first["runs"][:1]
    assert all(second[section] == first[section] for section in ("data", "model", "settings"))


def _refusals(environment: dict[str, str], output: Path, *flags: list[str]) -> list[str]:
    """The one line of each command, after `error: `."""
    commands = json.dumps([[*LIMITS, "--output", str(output), *more] for more in flags])
    run = [sys.executable, "-c", MAIN, commands]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    lines = []
    for code, out, err in json.loads(done.stdout.splitlines()[-1]):
        assert code == 2, (out, err)
        assert "compiling" not in out
        [line] = err.splitlines()
        assert line.startswith("error: ")
        lines.append(line.removeprefix("error: "))
    assert not output.exists()
    return lines


def test_names_that_the_hub_does_not_know(served: Served, online: Path, tmp_path: Path) -> None:
    environment = client_environment(served.hub.url, served.home)
    model, data, tokenizer = _refusals(
        environment,
        tmp_path / "out",
        ["--model.name", "nobody/nothing"],
        ["--data.source", "nobody/nothing"],
        ["--model.tokenizer", "nobody/nothing"],
    )
    assert model.startswith("--model.name nobody/nothing: the hub has no such model")
    assert data.startswith("nobody/nothing: the hub has no such data set")
    assert "tokenizer nobody/nothing" in tokenizer


def test_a_hub_that_cannot_be_reached(unreachable: dict[str, "subprocess.Popen[str]"]) -> None:
    for name, process in unreachable.items():
        out, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 2, out
        [line] = err.removeprefix("error: ").splitlines()
        assert line.startswith(f"{name} is not in the cache and the hub can't be reached. Offline: --")
        assert line.endswith(("or random weights by --model.from_config FILE", "or --data.source builtin"))


def test_a_download_that_drops(served: Served, tmp_path: Path) -> None:
    """Half of the weights arrive, every time."""
    half = (served.model / "model.safetensors").stat().st_size // 2
    with HubStandIn({"gpt2": served.model}, fail_after_bytes=half) as hub:
        environment = client_environment(hub.url, tmp_path / "home")
        [line] = _refusals(environment, tmp_path / "out", ["--data.source", "builtin"])
    assert line.startswith("gpt2: downloading model.safetensors failed (")
    assert line.endswith("Run the same command to try again")
    assert any("model.safetensors" in request for request in hub.requests)
