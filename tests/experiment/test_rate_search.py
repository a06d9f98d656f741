"""The search for rates: its plan by brute force, its trials by hand, and whole small experiments with it."""

import csv
import itertools
import json
import shutil
import signal
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tiny
from support.bounds import assert_same_losses
from support.report_results import make, page_tables, save
from support.small_experiments import metrics, results, small

from flax_agnews.cli import arguments
from flax_agnews.config import TrainConfig
from flax_agnews.errors import UserError
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.main import main
from flax_agnews.report import read_results, write_report
from flax_agnews.report.tables import ranked
from flax_agnews.runs.trial_record import Record, Trial, grid, half, halving
from flax_agnews.strategies import REGISTRY, Strategy
from flax_agnews.strategies.optim import Plan
from flax_agnews.system.display import Display
from flax_agnews.system.interrupt import Stopped
from flax_agnews.training.group import Lane
from flax_agnews.training.loop import fit
from flax_agnews.training.program import Program, plan_batches, plan_evaluation
from flax_agnews.training.state import set_up

# The plan


@pytest.mark.parametrize("trials", range(2, 16))
def test_factors_are_a_geometric_grid_around_the_default(trials):
    factors = grid(trials)
    assert len(factors) == trials
    np.testing.assert_allclose(np.diff(np.log10(factors)), 0.5, rtol=1e-12)
    assert 1.0 in factors
    assert max(factors) * min(factors) == pytest.approx(1 if trials % 2 else 10**0.5)


@given(st.integers(2, 15), st.integers(1, 200), st.integers(1, 40))
def test_halving_is_the_longest_within_its_budget(trials, steps, quarters):
    """Each round's part is the first of 1, 1/2, 1/3 ... of which all that are left cost no more than the round may."""
    budget = Fraction(quarters, 4)
    left = [trials]
    while left[-1] > 1:
        left.append(left[-1] - left[-1] // 2)
    rounds = left[:-1]
    parts = [next(part for part in itertools.count(1) if Fraction(n, part) <= budget / len(rounds)) for n in rounds]
    expected = [max(1, steps // part) for part in parts]
    assert halving(trials, steps, float(budget)) == expected
    assert [half(n) for n in rounds] == left[1:]
    if all(part <= steps for part in parts):
        assert sum(n * each for n, each in zip(rounds, expected, strict=True)) <= budget * steps


def test_ranks_are_by_accuracy_then_loss_then_nearness_to_the_default():
    best_first = [
        Trial(10.0, 8, 0.5, 1.0),
        Trial(0.1, 8, 0.4, 0.9),
        Trial(1.0, 8, 0.4, 1.1),
        Trial(10**0.5, 8, 0.4, 1.1),
        Trial(10**1.5, 8, None, None),
    ]
    record = Record({}, [*best_first[::-1], Trial(1.0, 4, 0.9, 0.1)])
    factors = [trial.factor for trial in best_first]
    assert record.ranked(factors[::-1], 8) == factors


# Rates times a factor


def _scaled(name, factor):
    """A registered strategy with all its rates in its settings times a factor."""
    rates = [field for field in fields(REGISTRY[name].settings) if field.name.endswith("learning_rate")]
    assert rates, name
    return tiny.build(name, **{rate.name: rate.default * factor for rate in rates})


def _updated(setup, plan, steps):
    """Trained leaves after so many updates of every epoch by random gradients, the same for all."""
    optimizer = setup.optimizer
    rng = np.random.default_rng(0)
    shapes = {path: setup.frame.shapes[path] for path in sorted(setup.trainable)}
    params = {path: jnp.float32(rng.standard_normal(shape)) for path, shape in shapes.items()}
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for epoch in range(plan.epochs):
        learning = setup.stages[setup.stage_of(epoch)].learning
        for _ in range(steps):
            gradients = {path: jnp.float32(rng.standard_normal(shape)) for path, shape in shapes.items()}
            own, before = ({p: tree[p] for p in shapes if p in learning} for tree in (gradients, params))
            updates, state = update(own, state, before)
            params |= optax.apply_updates(before, updates)
    return params


def _set_up(strategy, steps, **train):
    base = tiny.random_base()
    plan = Plan(steps * 4, steps, 8, base.config.n_layer, TrainConfig(epochs=4, weight_decay=0.1, **train))
    setup = tiny.prepare(strategy, base)
    return set_up(
        setup.strategy, base, tiny.CLASSES, plan, arguments.parse(["--model.dropout", "0"]).config.model, 50
    ), plan


@pytest.mark.parametrize("name", tiny.STRATEGIES)
def test_a_factor_is_that_on_every_rate_and_a_stride_that_on_every_schedule(name):
    """A run of 2 updates an epoch, its rates told to the strategy, against every fourth of 8 and a factor."""
    factor, how = 10**0.5, {"schedule": "cosine", "warmup_fraction": 0.25}
    whole, plan = _set_up(_scaled(name, 1.0), 8, **how)
    short, short_plan = _set_up(_scaled(name, factor), 2, **how)
    ours = _updated(whole.at(factor, stride=4), plan, 2)
    theirs = _updated(short, short_plan, 2)
    plain = _updated(short.at(1 / factor), short_plan, 2)
    for path, value in theirs.items():
        np.testing.assert_allclose(ours[path], value, rtol=1e-5, atol=1e-6, err_msg=path)
    assert any(not np.allclose(plain[path], value, rtol=1e-3) for path, value in theirs.items())


def test_one_program_has_the_losses_of_any_rate():
    split, factor = tiny.random_split(tiny.random_lengths(35, longest=60)), 10.0
    setup = tiny.prepare(tiny.build("full", learning_rate=1e-4))
    ours = tiny.training(setup.at(1.0), split, tiny.devices(), epochs=4)
    theirs = tiny.training(tiny.prepare(_scaled_rate(1e-4 * factor)), split, tiny.devices(), epochs=4)
    found = _losses(ours.at(setup.at(factor), ours.batches))
    assert_same_losses(found, _losses(theirs))
    with pytest.raises(AssertionError):
        assert_same_losses(found, _losses(ours))


def _scaled_rate(rate):
    return tiny.build("full", learning_rate=rate)


def _losses(program, steps=20):
    state, frozen = program.start(0)
    losses = []
    for number in range(steps):
        state, values = program.train_step(state, frozen, 0, *divmod(number, program.batches.steps_per_epoch))
        losses.append(float(values["loss"] / values["weight"]))
    return np.array(losses)


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
    assert [row[:2] for row in table[1:]] == [[n, f"{found['search'][n]['factor']:.3g}"] for n in ranked(found)]


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
            program = Program(setup, devices, there.shared, batches.cut(steps), evaluated)
            [run] = fit(program, [Lane(seed)], EPOCHS)
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

ONE = {
    "factor": 10.0,
    "rates": [5e-4],
    "edge": "highest",
    "trials": [
        {"factor": 10.0, "updates": 4, "val_accuracy": 0.75, "val_loss": 0.5},
        {"factor": 1.0, "updates": 4, "val_accuracy": None, "val_loss": None},
        {"factor": 10.0, "updates": 8, "val_accuracy": 0.875, "val_loss": 0.25},
    ],
    "updates": 16,
    "cost": {"seconds": 90.0},
}


def test_the_page_has_each_factors_scores_and_names_edges(tmp_path):
    save(tmp_path, {**make({"a|b": [0.5]}), "search": {"a|b": ONE}})
    write_report(tmp_path)
    page = (tmp_path / "report.md").read_text()
    [table] = [table for table in page_tables(page) if table[0][1] == "factor"]
    assert table[1] == ["a|b", "10", "0.0005", "1: not finite, 10: 0.750 → 0.875", "16", "1 min 30 s"]
    assert "At the edge of what was tried" in page


@pytest.mark.parametrize(
    "search",
    [
        [],
        {"full": []},
        {"full": {**ONE, "rates": ["1"]}},
        {"full": {**ONE, "trials": [3]}},
        {"full": {**ONE, "cost": 1}},
    ],
)
def test_a_broken_search_in_results_is_one_line(tmp_path, search):
    save(tmp_path, {**make({"full": [0.5]}), "search": search})
    with pytest.raises(UserError, match="search"):
        read_results(tmp_path)


def _head_at(rate):
    return Strategy.by_pattern("mine", {r"^score/": optax.sgd(rate), "": "frozen"})


def test_kept_trials_of_an_edited_scheme_are_not_taken(tmp_path):
    """Nor are they where the numbers of a scheme are in closures, and no run was begun."""
    config = arguments.parse(small(tmp_path / "out", *FLAGS, "--search.trials", 2)).config
    with Experiment(config, [_head_at(0.1)]) as experiment:
        experiment.search()
    with pytest.raises(UserError, match=r"search/mine\.json: was begun with other updates"):
        Experiment(config, [_head_at(0.2)]).prepare()


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
