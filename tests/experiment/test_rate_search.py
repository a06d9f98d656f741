"""The search for learning rates in whole small experiments: rounds, choice, resuming, refusals."""

import csv
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optax
import pytest
from support import tiny
from support.bounds import assert_same_losses
from support.report_results import page_tables, parsed
from support.small_experiments import metrics, results, small

from flax_agnews.cli import arguments
from flax_agnews.config import Config, TrainConfig
from flax_agnews.errors import UserError
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.experiment.rate_search import Search
from flax_agnews.main import main
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.report.answer import answer
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.trial_record import grid
from flax_agnews.strategies import REGISTRY, Strategy
from flax_agnews.strategies.optim import Plan
from flax_agnews.system.display import Display
from flax_agnews.system.interrupt import Stopped
from flax_agnews.training.batch_plans import plan_batches, plan_evaluation
from flax_agnews.training.lane import Lane
from flax_agnews.training.loop import train_runs
from flax_agnews.training.program import Inputs, Program
from flax_agnews.training.shape_prices import Prices
from flax_agnews.training.state import set_up

# The plan


@pytest.mark.parametrize("shapes", ["auto", 1, 6])
def test_trials_have_two_shapes_at_most_or_as_many_as_pay(shapes: Any, tmp_path: Path) -> None:
    split = tiny.random_split(tiny.random_lengths(60))
    config = Config(train=TrainConfig(batch_size=8, shapes=shapes, parallel_seeds=3))
    expensive = Prices("cpu", GPT2Config(n_layer=1000, n_embd=8), "float32")
    where = SimpleNamespace(devices=tiny.devices(), prices=expensive)
    search = Search(
        config, SimpleNamespace(train=split), where, None, [], None, OutputFolder(tmp_path), Display(), None
    )
    assert len(search.batches.shapes) == {"auto": 1, 1: 1, 6: 2}[shapes]
    assert (search.batches.choice is not None) == (shapes == "auto")


# Rates times a factor


# Whole experiments

TRIALS, EPOCHS, STEPS = 5, 2, 8  # 72 texts, 9 an update
ROUNDS = [(5, 1), (3, 2), (2, 4)]  # of a budget of 3 runs: factors, updates an epoch: a fifth, a third, a half
FLAGS = (
    *("--strategy", "full,gradual", "--train.batch_size", 9, "--train.runs", 2, "--train.parallel_seeds", 2),
    *("--train.schedule", "linear", "--search.trials", TRIALS),
)
NAMES = ("full", "gradual")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The folder of a finished experiment with a search; tests leave it as it is."""
    output = tmp_path_factory.mktemp("search") / "out"
    assert main(small(output, *FLAGS)) == 0
    return output


def _record(output, name):
    return json.loads((output / "search" / f"{name}.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_the_better_half_goes_on_and_the_best_is_chosen(searched, name):
    found = results(searched)["search"][name]
    left, trials = grid(TRIALS), found["trials"]
    for count, steps in ROUNDS:
        here, trials = trials[:count], trials[count:]
        assert [trial["updates"] for trial in here] == [steps * EPOCHS] * count
        assert {trial["factor"] for trial in here} == set(left)
        best_first = sorted(here, key=lambda trial: (-trial["val_accuracy"], trial["val_loss"]))
        left = [trial["factor"] for trial in best_first[: -(-count // 2)]]
    assert not trials
    assert [found["factor"]] == left
    assert found["updates"] == EPOCHS * sum(count * steps for count, steps in ROUNDS)
    assert found["updates"] <= 3 * EPOCHS * STEPS
    assert found["cost"]["seconds"] > 0


def test_results_table_and_page_tell_what_was_chosen(searched):
    found = results(searched)
    config = arguments.parse(small(searched, *FLAGS)).config
    highest = {"full": [config.strategies["full"].learning_rate]}
    gradual = config.strategies["gradual"]
    highest["gradual"] = [gradual.learning_rate / gradual.factor / 2, gradual.learning_rate]  # halfway down
    for name in NAMES:
        factor = found["search"][name]["factor"]
        assert found["search"][name]["rates"] == pytest.approx([rate * factor for rate in highest[name]], rel=1e-2)
        assert [run["rate_factor"] for run in found["runs"] if run["strategy"] == name] == [factor] * 2
    with (searched / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["rate_factor"]) for row in rows] == [run["rate_factor"] for run in found["runs"]]
    [table] = [t for t in page_tables((searched / "report.md").read_text()) if t[0][1] == "factor"]
    assert [row[:2] for row in table[1:]] == [
        [n, f"{found['search'][n]['factor']:.3g}"] for n in [entry.name for entry in answer(parsed(found)).strategies]
    ]


def test_runs_train_at_the_chosen_rates(searched, tmp_path):
    factor = results(searched)["search"]["full"]["factor"]
    rate = arguments.parse(small(searched, *FLAGS)).config.strategies["full"].learning_rate * factor
    flags = (*FLAGS, "--strategy", "full", "--search.trials", 0, "--full.learning_rate", rate)
    assert main(small(tmp_path / "plain", *flags)) == 0
    assert "search" not in results(tmp_path / "plain")
    assert not any("rate_factor" in run for run in results(tmp_path / "plain")["runs"])
    for seed in (42, 43):
        ours, plain = (
            [line["batch/train_loss"] for line in metrics(output / "full" / f"seed-{seed}")[0]]
            for output in (searched, tmp_path / "plain")
        )
        assert_same_losses(np.array(ours), np.array(plain))


def test_a_trial_is_a_run_in_miniature(searched, tmp_path):
    """By hand: a strategy of that rate, a plan of so many updates, and batches of which the first are taken."""
    config = arguments.parse(small(tmp_path / "out", *FLAGS)).config
    for trial in _record(searched, "gradual")["trials"][-2:]:
        settings = config.strategies["gradual"]
        scaled = replace(settings, learning_rate=settings.learning_rate * trial["factor"])
        with Experiment(config, [REGISTRY["full"]], overwrite=True) as there:
            data, base, devices, steps = there.data, there.base, there.devices, trial["updates"] // EPOCHS
            plan = Plan(trial["updates"], steps, 9, base.config.n_layer, config.train)
            setup = set_up(REGISTRY["gradual"].build(scaled, base.config), base, 4, plan, config.model, 32)
            seed = 2**32 - 1 - config.train.seed
            batches = plan_batches(data.train, replace(config.train, parallel_seeds=1), [seed], devices)
            evaluated = {
                name: plan_evaluation(data.validation, config.train, devices) for name in ("validation", "test")
            }
            program = Program(setup, devices, there.shared, Inputs(batches.cut(steps), evaluated))
            [run] = train_runs(program, [Lane(seed)], EPOCHS)
        best = run.history.best_epoch - 1
        assert trial["val_loss"] == pytest.approx(run.history.val_loss[best], rel=1e-4)
        assert trial["val_accuracy"] == run.history.val_accuracy[best]


def test_again_in_the_same_folder_searches_nothing(searched, tmp_path, capsys):
    copied = Path(shutil.copytree(searched, tmp_path / "out", symlinks=True))
    assert main(small(copied, *FLAGS)) == 0
    out = capsys.readouterr().out
    assert "4 of 4 runs were done before" in out
    assert "compiling" not in out
    assert "full: rates x" in out
    assert results(copied) == results(searched)


@pytest.mark.parametrize(("flag", "value", "was"), [("trials", 3, TRIALS), ("budget", 2.0, 3.0), ("trials", 0, TRIALS)])
def test_another_search_in_the_same_folder_is_refused(searched, capsys, flag, value, was):
    assert main(small(searched, *FLAGS, f"--search.{flag}", value)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"search.{flag} was {was}, now {value}" in line


class _StopsAfter(Display):
    """A display on which somebody presses Ctrl-C when so many trials are done."""

    def __init__(self, trials):
        super().__init__()
        self.left = trials

    def finished(self, progress):
        super().finished(progress)
        self.left -= progress.job.name == "search"
        if not self.left:
            signal.raise_signal(signal.SIGINT)


def test_an_interrupted_search_goes_on_and_never_asks_the_test_split(searched, tmp_path, capsys):
    """With other test texts, stopped twice and gone on with: the same trials as the undisturbed one's."""
    flags = (*FLAGS, "--strategy", "full", "--data.limit_test", 20)
    request = arguments.parse(small(tmp_path / "out", *flags))
    for trials, kept in ((2, 2), (4, 6)):
        with (
            pytest.raises(Stopped, match=f"{kept} trials kept"),
            Experiment(request.config, request.entries, _StopsAfter(trials)) as stopped,
        ):
            stopped.search()
        assert len(_record(tmp_path / "out", "full")["trials"]) == kept
    with Experiment(request.config, request.entries) as gone_on:
        gone_on.search()
    capsys.readouterr()
    ours, theirs = _record(tmp_path / "out", "full"), _record(searched, "full")
    assert ours["identity"]["data"] != theirs["identity"]["data"]
    assert {name: ours[name] for name in ("trials", "factor", "rates")} == {
        name: theirs[name] for name in ("trials", "factor", "rates")
    }
    assert [setup.factor for setup in gone_on.setups] == [theirs["factor"]]


def test_rates_that_are_not_finite_lose_and_are_no_error(tmp_path, capsys):
    """The head alone by plain gradient descent, at rates around where float32 ends."""
    request = arguments.parse(small(tmp_path / "out", *FLAGS, "--search.trials", 4))
    wild = Strategy.by_pattern("wild", {r"^score/": optax.sgd(1e37), "": "frozen"})
    lost = Strategy.by_pattern("lost", {r"^score/": optax.sgd(1e38), "": "frozen"})
    with Experiment(request.config, [wild, lost]) as experiment:
        experiment.search()
    finite = {trial["factor"]: trial["val_loss"] is not None for trial in _record(tmp_path / "out", "wild")["trials"]}
    assert True in finite.values()
    assert False in finite.values()
    assert finite[experiment.setups[0].factor]
    assert experiment.setups[1].factor == 1.0
    assert "lost: rates x 1" in capsys.readouterr().out


@pytest.mark.parametrize("spoiled", ["[]", '{"identity": 3}', '{"identity": {}, "trials": [{"factor": 0}]}', "{"])
def test_a_record_that_is_none_is_refused(tmp_path, capsys, spoiled):
    place = tmp_path / "out" / "search" / "full.json"
    place.parent.mkdir(parents=True)
    place.write_text(spoiled)
    assert main(small(tmp_path / "out", *FLAGS)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"{place}: " in line
    assert "remove it" in line


def test_a_search_of_something_else_is_refused(searched, tmp_path, capsys):
    request = arguments.parse(small(tmp_path / "out", *FLAGS, "--data.limit_test", 20))
    place = tmp_path / "out" / "search" / "full.json"
    place.parent.mkdir(parents=True)
    shutil.copy(searched / "search" / "full.json", place)
    with Experiment(request.config, request.entries) as experiment, pytest.raises(UserError, match="with other data"):
        experiment.search()


@pytest.mark.parametrize("trials", [-1, 1, 16])
def test_a_number_of_trials_that_chooses_nothing_is_an_error(capsys, trials):
    assert main(["--search.trials", str(trials)]) == 2
    assert f"--search.trials {trials}: must be 0, or 2 to 15" in capsys.readouterr().err


# The report


def _head_at(rate):
    return Strategy.by_pattern("mine", {r"^score/": optax.sgd(rate), "": "frozen"})


def test_kept_trials_of_an_edited_scheme_are_not_taken(tmp_path):
    """Nor are they where the numbers of a scheme are in closures, and no run was begun."""
    config = arguments.parse(small(tmp_path / "out", *FLAGS, "--search.trials", 2)).config
    with Experiment(config, [_head_at(0.1)]) as experiment:
        experiment.search()
    with pytest.raises(UserError, match=r"search/mine\.json: was begun with other updates"):
        Experiment(config, [_head_at(0.2)]).prepare()


def test_a_second_search_keeps_the_chosen_rates(tmp_path):
    config = arguments.parse(small(tmp_path / "out", *FLAGS, "--search.trials", 2)).config
    with Experiment(config, [_head_at(0.1)]) as experiment:
        experiment.search()
        chosen = [setup.factor for setup in experiment.setups]
        experiment.search()
        assert [setup.factor for setup in experiment.setups] == chosen
        assert None not in chosen


def test_rates_stay_when_epochs_grow_and_unfinished_searches_begin_anew(tmp_path):
    flags = (*FLAGS, "--search.trials", 2)
    config = arguments.parse(small(tmp_path / "out", *flags, "--train.epochs", 1)).config
    with Experiment(config, [_head_at(0.1)]) as experiment:
        experiment.search()
    before = _record(tmp_path / "out", "mine")
    place = tmp_path / "out" / "search" / "mine.json"
    longer = arguments.parse(small(tmp_path / "out", *flags, "--train.epochs", 2)).config
    with Experiment(longer, [_head_at(0.1)]) as experiment:
        experiment.search()
    assert _record(tmp_path / "out", "mine") == before
    assert experiment.setups[0].factor == before["factor"]
    place.write_text(json.dumps({**before, "factor": None, "rates": []}))
    with Experiment(longer, [_head_at(0.1)]) as experiment:
        experiment.search()
    after = _record(tmp_path / "out", "mine")
    assert {trial["updates"] for trial in after["trials"]} == {2 * trial["updates"] for trial in before["trials"]}
