"""More epochs of finished runs end with the bytes of longer runs, or one line says why they can't go on."""

import json
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import optax
import pytest
from support.report_results import make
from support.small_experiments import ONE_LAYER, results, small, without_cost
from support.tiny import prepare

from flax_agnews.cli import arguments
from flax_agnews.config import TrainConfig
from flax_agnews.errors import UserError
from flax_agnews.experiment.continuation import Scheme, epochs_left
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.main import main
from flax_agnews.runs.result_files import run_from
from flax_agnews.strategies import Strategy
from flax_agnews.system.display import Display
from flax_agnews.system.interrupt import Stopped
from flax_agnews.training.shape_prices import SPEEDS

# `full` keeps every sort of state, `gradual` trains in its third epoch what a plan of two doesn't have in its state.
FLAGS = ("--strategy", "full,gradual", "--gradual.layers", 1, "--train.runs", 1)
RUNS = (Path("full/seed-42"), Path("gradual/seed-42"))
HEAD = ("--strategy", "head", "--train.runs", 1, *ONE_LAYER)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "out"
    assert main(small(output, *FLAGS, "--train.epochs", 4)) == 0
    return output


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs; tests leave it as it is."""
    output = tmp_path_factory.mktemp("short") / "out"
    assert main(small(output, *FLAGS, "--train.epochs", 2)) == 0
    return output


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of the head alone, which take no time; tests leave it as it is."""
    output = tmp_path_factory.mktemp("head") / "out"
    assert main(small(output, *HEAD, "--train.epochs", 2)) == 0
    return output


def _copied(output: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(output, tmp_path / "out", symlinks=True))


def _arrays(run: Path) -> dict[str, bytes]:
    """Every array's bytes of the weights and states that stay; Orbax notes times beside them."""
    files = [path for path in run.glob("checkpoints/*/arrays/*/*") if path.is_file()]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def _assert_same(output: Path, reference: Path) -> None:
    assert without_cost(results(output)) == without_cost(results(reference))
    for run in RUNS:
        for name in ("metrics.jsonl", "identity.json", "predictions.parquet"):
            assert (output / run / name).read_bytes() == (reference / run / name).read_bytes()
        ours, theirs = _arrays(output / run), _arrays(reference / run)
        assert ours == theirs
        kinds = {name.split("/")[1].split("-")[0] for name in theirs}
        assert kinds == {"best", "step"}  # the last state, and the best weights


class _Stops(Display):
    """A display on which somebody presses Ctrl-C at the first line that holds a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def note(self, text: str) -> None:
        super().note(text)
        if self.text in text:
            signal.raise_signal(signal.SIGINT)


def test_more_epochs_end_as_if_it_had_been_so_from_the_start(whole: Path, short: Path, tmp_path: Path, capsys) -> None:
    output = _copied(short, tmp_path)
    before = {run: json.loads((output / run / "result.json").read_text()) for run in RUNS}
    request = arguments.parse(small(output, *FLAGS, "--train.epochs", 4))
    with pytest.raises(Stopped):  # and stopped on the way: what was finished is still a result
        Experiment(request.config, request.entries, _Stops("full seed 42: goes on at step 6")).run()
    assert {run: json.loads((output / run / "result.json").read_text()) for run in RUNS} == before
    assert main(small(output, *FLAGS, "--train.epochs", 4)) == 0
    out = capsys.readouterr().out
    assert "gradual seed 42: goes on at step 6" in out
    _assert_same(output, whole)
    assert main(small(output, *FLAGS, "--train.epochs", 4)) == 0
    assert "2 of 2 runs were done before" in capsys.readouterr().out


@pytest.mark.long
def test_more_epochs_of_runs_side_by_side(tmp_path: Path) -> None:
    flags = ("--strategy", "gradual", "--gradual.layers", 1, "--train.runs", 2, "--train.parallel_seeds", 2)
    for name, epochs in (("parts", 2), ("parts", 4), ("whole", 4)):
        assert main(small(tmp_path / name, *flags, "--train.epochs", epochs)) == 0
    ours, theirs = tmp_path / "parts", tmp_path / "whole"
    assert without_cost(results(ours)) == without_cost(results(theirs))
    for seed in (42, 43):
        run = f"gradual/seed-{seed}"
        assert _arrays(ours / run) == _arrays(theirs / run) != {}
        assert (ours / run / "metrics.jsonl").read_bytes() == (theirs / run / "metrics.jsonl").read_bytes()


# --- why not


def _refused(output: Path, capsys: pytest.CaptureFixture[str], *flags: object) -> str:
    """The one line; nothing in the folder has changed."""
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert main(small(output, *HEAD, *flags)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    return line


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--train.schedule", "cosine"), "--train.schedule cosine depends on the number of epochs"),
        (("--train.schedule", "linear"), "--train.schedule linear depends on the number of epochs"),
        (("--train.warmup_fraction", 0.3), "--train.warmup_fraction 0.3 depends on the number of epochs"),
        (("--checkpoint.keep_final", "false"), "its last state wasn't kept (--checkpoint.keep_final"),
    ],
)
def test_what_cant_go_on_says_why(tmp_path: Path, capsys, flags, reason: str) -> None:
    output = tmp_path / "out"
    assert main(small(output, *HEAD, *flags, "--train.epochs", 2)) == 0
    capsys.readouterr()
    line = _refused(output, capsys, *flags, "--train.epochs", 3)
    assert line.startswith("error: --train.epochs 3: ")
    assert f"{output / 'head' / 'seed-42'}" in line
    assert reason in line


def test_fewer_epochs_are_refused(head: Path, tmp_path: Path, capsys) -> None:
    line = _refused(_copied(head, tmp_path), capsys, "--train.epochs", 1)
    assert "train.epochs was 2, now 1" in line


@pytest.mark.parametrize("depends", [True, False])
def test_a_scheme_of_ones_own_goes_on_where_its_updates_dont_depend_on_the_plan(tmp_path: Path, depends: bool) -> None:
    def rate(plan):
        return optax.sgd(optax.linear_schedule(0.1, 0.01, plan.steps if depends else 6))

    def run(epochs: int) -> None:
        config = arguments.parse(small(tmp_path / "out", *HEAD, "--train.epochs", epochs)).config
        Experiment(config, [Strategy.by_pattern("mine", {"score": rate, "": "frozen"})]).run()

    run(2)
    if depends:
        with pytest.raises(UserError, match=r"^train.epochs 3: .*since a rate of mine depends on the number of epo"):
            run(3)
    else:
        run(3)
        assert [len(run["val_accuracy"]) for run in results(tmp_path / "out")["runs"]] == [3]


def test_an_edited_scheme_doesnt_go_on_for_more_epochs(tmp_path: Path) -> None:
    def run(epochs: int, rate: float) -> None:
        config = arguments.parse(small(tmp_path / "out", *HEAD, "--train.epochs", epochs)).config
        Experiment(config, [Strategy.by_pattern("mine", {"score": optax.sgd(rate), "": "frozen"})]).run()

    run(2, 1e-3)
    for epochs in (2, 3):
        with pytest.raises(UserError, match="was begun with other updates"):
            run(epochs, 10.0)


def test_a_run_of_before_this_was_noted_is_still_taken(head: Path, tmp_path: Path, capsys) -> None:
    output = _copied(head, tmp_path)
    identity = output / "head" / "seed-42" / "identity.json"
    old = {key: value for key, value in json.loads(identity.read_text()).items() if key not in ("updates", "steps")}
    identity.write_text(json.dumps(old))
    assert main(small(output, *HEAD, "--train.epochs", 2)) == 0
    assert "1 of 1 runs were done before" in capsys.readouterr().out
    assert json.loads(identity.read_text()) == old  # nobody knows what its updates were


@pytest.mark.parametrize("steps", ["x", "-3", "7", "", 3, None])
def test_an_identity_with_impossible_steps_is_one_line(head: Path, tmp_path: Path, capsys, steps) -> None:
    output = _copied(head, tmp_path)
    identity = output / "head" / "seed-42" / "identity.json"
    identity.write_text(json.dumps({**json.loads(identity.read_text()), "steps": steps}))
    assert "was begun with other steps" in _refused(output, capsys, "--train.epochs", 2)


@pytest.mark.parametrize(
    ("epochs", "best", "planned", "patience", "left"),
    [
        (2, 1, 2, None, True),
        (4, 1, 4, None, False),
        (2, 1, 3, None, False),  # it ended before its plan
        (2, 1, 2, 1, False),  # it would have ended here, whatever the plan
        (2, 2, 2, 1, True),
    ],
)
def test_a_run_that_stopped_early_stays_finished(epochs, best, planned, patience, left) -> None:
    result = {**make({"full": [0.5]}, epochs)["runs"][0], "best_epoch": best, "planned_epochs": planned}
    assert epochs_left(run_from(result), TrainConfig(epochs=4, early_stopping=patience)) == left


# --- shapes: an update's last digits are its shape's

CHOSEN = (*HEAD, "--train.shapes", "auto", "--train.batch_size", 16, "--train.cache_frozen", "off")


def test_more_epochs_in_shapes_that_were_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    """For so small a body several shapes pay where a shape is compiled in no time."""
    quick = replace(SPEEDS["cpu"], compiling=1e-6, each_layer=0.0)
    monkeypatch.setitem(SPEEDS, "cpu", quick)
    for name, epochs in (("parts", 2), ("parts", 4), ("whole", 4)):
        assert main(small(tmp_path / name, *CHOSEN, "--train.epochs", epochs)) == 0
        plan = next(line for line in capsys.readouterr().out.splitlines() if "padding" in line)
        assert re.search(r"in [2-6] shapes", plan)
    ours, theirs = tmp_path / "parts", tmp_path / "whole"
    assert without_cost(results(ours)) == without_cost(results(theirs))
    run = Path("head/seed-42")
    assert _arrays(ours / run) == _arrays(theirs / run) != {}
    assert (ours / run / "metrics.jsonl").read_bytes() == (theirs / run / "metrics.jsonl").read_bytes()


def test_a_rate_of_its_own_under_a_schedule_goes_on_in_a_given_number_of_shapes() -> None:
    """The updates are the same for any number of epochs; shapes that were chosen for that number are not."""
    setup = prepare("head")

    def scheme(epochs: int, shapes: Any) -> Scheme:
        train = TrainConfig(epochs=epochs, schedule="linear", shapes=shapes)
        return Scheme(setup, train, 3, lambda epochs: setup)

    known = scheme(2, 1).identity
    scheme(4, 1).check(Path("run"), known, 2)
    scheme(2, "auto").check(Path("run"), known, 2)
    with pytest.raises(UserError, match=r"train\.schedule linear depends on the number of epochs"):
        scheme(4, "auto").check(Path("run"), known, 2)
