"""Early stopping ends runs by its rule: alone, in groups, resumed and in stages; learning rates stay as without it."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tiny
from support.bounds import assert_same_losses
from support.small_experiments import metrics, results, small

from flax_agnews.data.batches import EvalBatches
from flax_agnews.main import main
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.history import History, Scores
from flax_agnews.training.lane import Lane, RunNotes
from flax_agnews.training.loop import TrainedRun, train_runs
from flax_agnews.training.observer import Interrupted, Observer
from flax_agnews.training.program import Program
from flax_agnews.training.saving import Saving

EPOCHS, PER_EPOCH, PATIENCE = 8, 5, 2
SPLIT = tiny.random_split(tiny.random_lengths(35, longest=40))
SEEDS = (0, 1, 2, 3)
NOTES = RunNotes(identity={"of": "this"})


def ends(accuracies: list[float], patience: int, settled: int = 0) -> int:
    """The naive rule: epochs of a run whose accuracies these would be, without early stopping."""
    best, waited = -1.0, 0
    for epoch, accuracy in enumerate(accuracies, start=1):
        better = accuracy > best
        waited = 0 if better or epoch <= settled else waited + 1
        best = max(best, accuracy)
        if waited == patience:
            return epoch
    return len(accuracies)


class Told(Observer):
    """Notes what runs say; asks to stop after an update where one is given, counted over the run."""

    def __init__(self, stop: int = 0) -> None:
        self.stop, self.done, self.early = stop, 0, {}

    def step(self, epochs_done: float, tokens_per_second: float) -> None:
        self.done = round(epochs_done * PER_EPOCH)

    def should_stop(self) -> bool:
        return self.done + 1 == self.stop

    def ended(self, number: int, history: History) -> None:
        assert number not in self.early
        self.early[number] = len(history.val_accuracy)


def program_of(together: int) -> Program:
    """A head at a high rate, validated on random labels: accuracies rise and fall by chance, otherwise in each run."""
    few = tiny.random_split(tiny.random_lengths(40, longest=40, seed=3), seed=3)
    evaluated = EvalBatches(few.tokens, few.labels, 40, devices=1)
    both = {"validation": evaluated, "test": evaluated}
    base, where = tiny.random_base(replace(tiny.CONFIG, n_layer=1)), tiny.devices()
    setup = tiny.prepare(tiny.build("head", base.config, learning_rate=0.03), base)
    return tiny.training(setup, SPLIT, where, seeds=SEEDS, epochs=EPOCHS, together=together, evaluated=both)


@pytest.fixture(scope="module")
def alone() -> Program:
    return program_of(1)


@pytest.fixture(scope="module")
def together() -> Program:
    return program_of(len(SEEDS))


def fitted(
    program: Program, seeds: tuple[int, ...], folder: Path, patience: int | None, observer: Observer | None = None
) -> list[TrainedRun]:
    """Runs that train together, saved at each epoch."""
    lanes = [
        Lane(seed, Store(folder / str(seed)), folder / f"{seed}.jsonl", patience=patience, notes=NOTES)
        for seed in seeds
    ]
    runs = train_runs(program, lanes, EPOCHS, saving=Saving(every_steps=PER_EPOCH), observer=observer)
    return [run for run in runs if run]


def bytes_of(run: TrainedRun) -> dict[str, Any]:
    """Everything that must be the same, to the last bit."""
    history = run.history
    curves = (history.train_loss, history.val_loss, history.val_accuracy, history.best_epoch, history.tokens)
    weights = {path: np.asarray(value).tobytes() for path, value in run.params.items()}
    return {"curves": curves, "logits": run.logits.tobytes(), "validation": run.val_logits.tobytes(), **weights}


@pytest.fixture(scope="module")
def whole(together: Program, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrainedRun]]:
    """All seeds together, without early stopping."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, fitted(together, SEEDS, folder, None)


@pytest.fixture(scope="module")
def stopped(together: Program, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrainedRun], Told]:
    """The same with it."""
    folder, told = tmp_path_factory.mktemp("stopped"), Told()
    return folder, fitted(together, SEEDS, folder, PATIENCE, told), told


def test_each_run_of_a_group_ends_by_the_rule_and_is_then_as_it_was(
    whole: tuple[Path, list[TrainedRun]], stopped: tuple[Path, list[TrainedRun], Told]
) -> None:
    """Up to its end a run is the one without early stopping, bit by bit; its files too, whatever the others do."""
    folder, runs, told = stopped
    expected = [ends(run.history.val_accuracy, PATIENCE) for run in whole[1]]
    assert len(set(expected)) > 1  # the others went on
    assert min(expected) < EPOCHS
    assert told.early == {number: epoch for number, epoch in enumerate(expected) if epoch < EPOCHS}
    for seed, run, other, epochs in zip(SEEDS, runs, whole[1], expected, strict=True):
        ours, theirs = run.history, other.history
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_macro_f1", "skipped"):
            assert getattr(ours, name) == getattr(theirs, name)[:epochs], name
        assert len(ours.epoch_seconds) == epochs
        assert sum(ours.epoch_seconds) == pytest.approx(ours.train_seconds, rel=1e-9)
        assert ours.tokens == epochs * int(SPLIT.tokens.lengths.sum())
        assert ours.best_epoch == 1 + int(np.argmax(theirs.val_accuracy[:epochs]))
        lines = (folder / f"{seed}.jsonl").read_text().splitlines()
        assert lines == (whole[0] / f"{seed}.jsonl").read_text().splitlines()[: epochs * (PER_EPOCH + 1)]
        assert len(lines) == ours.lines == epochs * (PER_EPOCH + 1)


def test_a_run_alone_ends_by_the_rule_with_the_best_weights_so_far(
    alone: Program, stopped: tuple[Path, list[TrainedRun], Told], tmp_path: Path
) -> None:
    [full] = fitted(alone, (1,), tmp_path / "whole", None)
    told = Told()
    [run] = fitted(alone, (1,), tmp_path / "stopped", PATIENCE, told)
    epochs = ends(full.history.val_accuracy, PATIENCE)
    assert epochs < EPOCHS
    assert told.done == epochs * PER_EPOCH  # not one update more
    assert told.early == {0: epochs}
    assert run.history.val_accuracy == full.history.val_accuracy[:epochs]
    assert run.history.train_loss == full.history.train_loss[:epochs]  # the same rates: the plan is that of all epochs
    in_group = stopped[1][1].history
    both = min(epochs, len(in_group.train_loss))
    assert_same_losses(in_group.train_loss[:both], run.history.train_loss[:both])
    [naive] = fitted_for(alone, run.history.best_epoch, tmp_path / "naive")
    assert {p: v.tobytes() for p, v in map_bytes(run)} == {p: v.tobytes() for p, v in map_bytes(naive)}


def fitted_for(program: Program, epochs: int, folder: Path) -> list[TrainedRun]:
    """Seed 1 for so many epochs, all of them."""
    runs = train_runs(program, [Lane(1, Store(folder))], epochs)
    return [run for run in runs if run and run.history.best_epoch == epochs]


def map_bytes(run: TrainedRun) -> list[tuple[str, np.ndarray]]:
    return [(path, np.asarray(value)) for path, value in run.params.items()]


@pytest.mark.parametrize("where", ["before an end", "after an end"])
def test_a_stopped_group_ends_where_an_undisturbed_one_does(
    together: Program, stopped: tuple[Path, list[TrainedRun], Told], tmp_path: Path, where: str
) -> None:
    _, runs, told = stopped
    first = min(told.early.values())
    stop = first * PER_EPOCH + (2 if where == "after an end" else -2)
    with pytest.raises(Interrupted):
        fitted(together, SEEDS, tmp_path, PATIENCE, Told(stop))
    later = Told()
    again = fitted(together, SEEDS, tmp_path, PATIENCE, later)
    assert [bytes_of(run) for run in again] == [bytes_of(run) for run in runs]
    for seed in SEEDS:
        assert (tmp_path / f"{seed}.jsonl").read_bytes() == (stopped[0] / f"{seed}.jsonl").read_bytes()
    known = {number: epoch for number, epoch in told.early.items() if epoch * PER_EPOCH > stop}
    assert later.early == known


def test_a_group_whose_last_run_diverges_keeps_those_that_ended(together: Program, tmp_path: Path) -> None:
    """The run that goes on is spoiled: it alone has no result, and the group ends there."""
    told = Told()
    lanes = [Lane(seed, patience=1 if seed else None) for seed in SEEDS]

    class Spoiled(Told):
        def epoch(self, epoch: int, histories: Any) -> None:
            if all(lane.ended for lane in lanes[1:]):
                lanes[0].history.end("at a step of the test's choice")

    told = Spoiled()
    runs = train_runs(together, lanes, EPOCHS, observer=told)
    assert [run is None for run in runs] == [True, False, False, False]
    assert told.done == max(told.early.values()) * PER_EPOCH < EPOCHS * PER_EPOCH


# Stages


@pytest.mark.parametrize("settled", [0, 4, 7])
def test_a_strategy_with_stages_waits_for_its_last(settled: int) -> None:
    accuracies = [0.3, 0.5, 0.4, 0.4, 0.5, 0.45, 0.6, 0.1, 0.2, 0.3]
    lane = Lane(0, patience=PATIENCE)
    lane.begin(History(), 5, 4, settled)
    for epoch in range(1, len(accuracies) + 1):
        lane.history.val_accuracy = accuracies[:epoch]
        lane.history.best_epoch = 1 + int(np.argmax(accuracies[:epoch]))
        if lane.ended:
            break
    assert epoch == ends(accuracies, PATIENCE, settled)


def test_a_run_whose_validation_is_not_finite_stopped_and_did_not_end_early() -> None:
    lane = Lane(0, patience=1)
    lane.begin(History(), 5, 4)
    for accuracy in (0.5, math.nan):
        lane.journal.epoch(Scores(math.nan if math.isnan(accuracy) else 1.0, accuracy, accuracy, []))
    assert lane.fault
    assert lane.over
    assert not lane.ended


def test_gradual_unfreezing_ends_only_when_all_groups_train(tmp_path: Path) -> None:
    """With a patience of 1 and rates that learn nothing, right after the first epoch of the last stage."""
    flags = ("--strategy", "gradual", "--gradual.layers", 1, "--gradual.learning_rate", 1e-12)
    assert main(small(tmp_path, *flags, "--train.runs", 1, "--train.epochs", 6, "--train.early_stopping", 1)) == 0
    [run] = results(tmp_path)["runs"]
    assert len(run["val_accuracy"]) == 3  # head; layer 2; layer 1 with the embeddings
    assert run["best_epoch"] == 1


# A whole experiment

FLAGS = ("--strategy", "head", "--head.learning_rate", 1e-12, "--train.epochs", 5, "--train.runs", 2)
EARLY = ("--train.early_stopping", 2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing is learned: every run ends after 1 + 2 epochs."""
    output = tmp_path_factory.mktemp("early") / "out"
    assert main(small(output, *FLAGS, *EARLY)) == 0
    return output


def test_results_simply_end_and_say_so(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in results(finished)["runs"]:
        assert run["stopped_early"] is True
        assert run["best_epoch"] == 1
        assert {len(run[name]) for name in ("train_loss", "val_loss", "val_accuracy", "val_macro_f1")} == {3}
        lines, epochs = metrics(finished / "head" / f"seed-{run['seed']}")
        assert [line["epoch"] for line in epochs] == [1, 2, 3]
        assert len(lines) % 3 == 0
    page = (finished / "report.md").read_text()
    assert "2 of 2 runs ended early" in page
    assert main(small(finished, *FLAGS, *EARLY)) == 0
    out = capsys.readouterr().out
    assert "2 of 2 runs were done before" in out
    assert "ended early" not in out


def test_the_display_says_when_and_a_run_without_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--strategy", "head", "--head.learning_rate", 1e-12, "--train.epochs", 3, "--train.runs", 1)
    assert main(small(tmp_path / "early", *flags, "--train.early_stopping", 1)) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "ended early" in line]
    assert line.startswith("head seed 42: ended early, after epoch 2 of 3: validation accuracy no better since epoch 1")
    assert main(small(tmp_path / "whole", *flags)) == 0
    assert "ended early" not in capsys.readouterr().out
    [run] = results(tmp_path / "whole")["runs"]
    assert (run["stopped_early"], len(run["val_accuracy"])) == (False, 3)


@pytest.mark.parametrize("setting", [("--train.early_stopping", 1), ("--train.label_smoothing", 0.1)])
def test_a_folder_of_other_settings_is_refused_even_one_made_before_there_were_any(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: tuple[str, Any]
) -> None:
    output = Path(shutil.copytree(finished, tmp_path / "out"))
    kept = [line for line in (output / "config.yaml").read_text().splitlines() if setting[0][8:] not in line]
    for content in ((output / "config.yaml").read_text(), "\n".join(kept) + "\n"):
        (output / "config.yaml").write_text(content)
        others = EARLY if "smoothing" in setting[0] else ()
        assert main(small(output, *FLAGS, *others, *setting)) == 2
        name = setting[0].removeprefix("--")
        assert f"{name} was " in capsys.readouterr().err


def test_trials_of_a_search_never_end_early(tmp_path: Path) -> None:
    flags = ("--search.trials", 2, "--search.budget", 2, *FLAGS, *EARLY)
    assert main(small(tmp_path, *flags, "--train.runs", 1)) == 0
    record = json.loads((tmp_path / "search" / "head.json").read_text())
    assert all(trial["updates"] % 5 == 0 for trial in record["trials"])  # of all five epochs
    assert results(tmp_path)["runs"][0]["stopped_early"]
