"""Whole small experiments: the files in their folder, and what running the same command again does."""

import csv
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss
from support.kept_predictions import assert_scores_of_predictions
from support.small_experiments import BODY, best_weights, metrics, results, settings, small, without_cost
from support.wandb_records import wandb_history
from transformers import GPT2Config, GPT2Model

from flax_agnews.config import DataConfig, ModelConfig
from flax_agnews.data.sources import load_corpus
from flax_agnews.data.tokens import load_tokenizer
from flax_agnews.main import main
from flax_agnews.models.pretrained import load_base
from flax_agnews.models.weights import hub_key
from flax_agnews.runs.predictions import read_predictions
from flax_agnews.training.program import Program

EPOCHS, TRAIN, BATCH = 2, 72, 32  # 80 rows, a tenth of which validates
SEEDS = [42, 43]
RUNS = [(name, seed) for name in ("full", "prompt") for seed in SEEDS]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished experiment, tracked offline; tests leave it as it is."""
    output = tmp_path_factory.mktemp("experiment") / "out"
    assert main(small(output, "--strategy", "full,prompt", "--tracking.wandb", "offline")) == 0
    return output


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "out", symlinks=True))


def _run_folder(output: Path, run: tuple[str, int]) -> Path:
    return output / run[0] / f"seed-{run[1]}"


def _stamps(output: Path) -> dict[Path, int]:
    """When each run's metrics were written, ns."""
    return {path.relative_to(output): path.stat().st_mtime_ns for path in output.glob("*/seed-*/metrics.jsonl")}


# --- what is left


def test_the_folder_has_what_is_promised(finished: Path) -> None:
    files = ("config.yaml", "results.json", "results.csv", "report.md", "accuracy_curves.png")
    assert all((finished / name).stat().st_size > 0 for name in files)
    assert (finished / "accuracy_curves.png").read_bytes().startswith(b"\x89PNG")
    for run in RUNS:
        assert (_run_folder(finished, run) / "metrics.jsonl").is_file()
        assert (_run_folder(finished, run) / "predictions.parquet").is_file()
        checkpoints = list((_run_folder(finished, run) / "checkpoints").iterdir())
        assert checkpoints
        states = [path.name for path in checkpoints if path.name.startswith("step-")]
        assert states == [f"step-{EPOCHS * math.ceil(TRAIN / BATCH):08d}"]  # the last, for more epochs


def test_results_have_every_field_of_every_run(finished: Path) -> None:
    found = results(finished)
    assert [(run["strategy"], run["seed"]) for run in found["runs"]] == RUNS
    for run in found["runs"]:
        for name in ("test_accuracy", "test_macro_f1"):
            assert 0 <= run[name] <= 1
        assert run["test_loss"] > 0
        for name in ("train_accuracy", "val_accuracy", "train_loss", "val_loss", "val_macro_f1"):
            assert len(run[name]) == EPOCHS
        cost = run["cost"]
        assert cost["train_seconds"] > 0
        assert cost["compile_seconds"] > 0
        assert cost["cache_seconds"] >= 0
        assert cost["pretrain_seconds"] == 0
        assert cost["tokens_per_second"] > 0
        assert cost["peak_memory_bytes"] > 2**20
    assert (found["data"]["train"], found["data"]["validation"], found["data"]["test"]) == (72, 8, 60)
    assert found["pretrain"] is None


def test_costs_by_their_closed_forms(finished: Path) -> None:
    found = results(finished)
    for run in found["runs"]:
        cost, trained = run["cost"], run["trainable_parameters"]
        assert cost["tokens"] == pytest.approx(EPOCHS * TRAIN * found["data"]["tokens_per_text"])
        assert 0 < cost["seconds_to_95"] <= cost["train_seconds"]
        assert cost["kept_bytes"] == 4 * trained
        assert 0 <= cost["optimizer_bytes"] - 2 * 4 * trained < 100  # AdamW's two moments, and counters
    flop = {run["strategy"]: run["cost"]["flop"] for run in found["runs"]}
    first = 12 * BODY["n_embd"] ** 2 * found["runs"][0]["cost"]["tokens"]  # numbers of the first of two layers x tokens
    assert 6 * first < flop["full"] < 2 * 6 * first
    assert 4 * first < flop["prompt"] < flop["full"]  # no gradients of weights
    kept = best_weights(_run_folder(finished, ("full", 42)))
    assert found["runs"][0]["cost"]["kept_bytes"] == sum(value.nbytes for value in kept.values())


def test_numbers_of_parameters_by_their_closed_form(finished: Path) -> None:
    width, layers, classes, prompt = BODY["n_embd"], BODY["n_layer"], 4, 4
    layer = 12 * width**2 + 13 * width  # GPT-2's: 4 products, their biases, 2 norms
    body = (BODY["vocab_size"] + BODY["n_positions"]) * width + layers * layer + 2 * width
    expected = {
        "full": (body + classes * width, body + classes * width),
        "prompt": ((prompt + classes) * width, body + (prompt + classes) * width),
    }
    for run in results(finished)["runs"]:
        assert (run["trainable_parameters"], run["total_parameters"]) == expected[run["strategy"]]


def test_the_summary_is_mean_and_sd_by_numpy(finished: Path) -> None:
    found = results(finished)
    for name, summary in found["summary"].items():
        runs = [run for run in found["runs"] if run["strategy"] == name]
        assert summary["n"] == len(runs) == len(SEEDS)
        values = {key: [run[key] for run in runs] for key in ("test_accuracy", "test_macro_f1", "test_loss")}
        for key, numbers in values.items():
            assert summary[key]["mean"] == pytest.approx(np.mean(numbers), rel=1e-12)
            assert summary[key]["sd"] == pytest.approx(np.std(numbers, ddof=1), rel=1e-9, abs=1e-12)


def test_the_table_has_a_row_for_every_run(finished: Path) -> None:
    with (finished / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    runs = results(finished)["runs"]
    assert [(row["strategy"], int(row["seed"])) for row in rows] == RUNS
    assert [float(row["test_accuracy"]) for row in rows] == [run["test_accuracy"] for run in runs]
    assert [int(row["trainable_parameters"]) for row in rows] == [run["trainable_parameters"] for run in runs]


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_metrics_have_a_line_for_every_update_and_epoch(finished: Path, run: tuple[str, int]) -> None:
    steps, epochs = metrics(_run_folder(finished, run))
    per_epoch = math.ceil(TRAIN / BATCH)
    assert [line["step"] for line in steps] == list(range(1, EPOCHS * per_epoch + 1))
    assert [line["epoch"] for line in epochs] == list(range(1, EPOCHS + 1))
    weights = [min(BATCH, TRAIN - start) for start in range(0, TRAIN, BATCH)]  # the last batch is short
    [result] = [r for r in results(finished)["runs"] if (r["strategy"], r["seed"]) == run]
    for epoch, line in enumerate(epochs):
        losses = [step["batch/train_loss"] for step in steps[epoch * per_epoch :][:per_epoch]]
        # sums are float32 on the device: 2^-24 each, far below
        assert line["train/loss"] == pytest.approx(np.average(losses, weights=weights), rel=1e-6)
        assert len(set(losses)) == per_epoch
        for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy"):
            assert line[name] == result[name.replace("/", "_")][epoch]
        assert line["train/accuracy"] * TRAIN == pytest.approx(round(line["train/accuracy"] * TRAIN), abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_scores_are_those_of_the_best_weights_by_pytorch_and_scikit_learn(finished: Path, seed: int) -> None:
    """The restored weights in transformers' GPT-2, text by text; the last hidden state and the head give logits."""
    weights = best_weights(finished / "full" / f"seed-{seed}")
    head = torch.from_numpy(weights.pop("score/kernel"))
    model = GPT2Model(GPT2Config(**BODY)).eval()
    model.load_state_dict({hub_key(path): torch.from_numpy(value) for path, value in weights.items()})
    test = load_corpus(DataConfig(source="builtin", limit_train=80, limit_test=60)).test
    tokens = load_tokenizer(str(finished / "tokenizer")).encode(test.texts, 32)
    with torch.no_grad():
        states = [model(torch.from_numpy(ids[None])).last_hidden_state[0, -1] for ids in tokens]
    logits = (torch.stack(states) @ head).double()
    answers, classes = logits.argmax(-1).numpy(), list(range(4))

    [run] = [r for r in results(finished)["runs"] if (r["strategy"], r["seed"]) == ("full", seed)]
    assert run["test_accuracy"] == pytest.approx(accuracy_score(test.labels, answers), abs=1e-12)
    macro = f1_score(test.labels, answers, labels=classes, average="macro", zero_division=0)
    assert run["test_macro_f1"] == pytest.approx(macro, abs=1e-12)
    assert run["test_confusion"] == confusion_matrix(test.labels, answers, labels=classes).tolist()
    loss = log_loss(test.labels, logits.softmax(-1).numpy(), labels=classes)
    assert run["test_loss"] == pytest.approx(loss, rel=1e-5)  # logits of two float32 programs
    kept = read_predictions(finished, "full", seed)
    assert kept is not None
    np.testing.assert_allclose(kept.splits["test"].probabilities, logits.softmax(-1).numpy(), rtol=1e-4)
    np.testing.assert_array_equal(kept.splits["test"].labels, test.labels)
    assert run["best_epoch"] == 1 + int(np.argmax(run["val_accuracy"]))


def test_predictions_have_the_scores_of_results(finished: Path) -> None:
    assert_scores_of_predictions(finished, ["full", "prompt"])


def test_random_weights_are_kept_under_their_hash(finished: Path) -> None:
    base = load_base(ModelConfig(name=str(finished / "base")))
    assert base.hash == results(finished)["model"]["base"]
    assert GPT2Model.from_pretrained(finished / "base").config.n_embd == BODY["n_embd"]


def test_weights_and_biases_has_the_original_experiments_metrics(finished: Path) -> None:
    files = list(finished.rglob("offline-run-*/run-*.wandb"))
    assert len(files) == len(RUNS) + 1  # and one for the comparison
    histories = [wandb_history(path) for path in files]
    runs = [rows for rows in histories if "batch/train_loss" in rows[0]]
    [comparison] = [rows for rows in histories if "batch/train_loss" not in rows[0]]
    assert len(runs) == len(RUNS)
    assert {"results", "accuracy_curves"} <= comparison[-1].keys()
    per_epoch = {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "epoch_time"}
    per_step = math.ceil(TRAIN / BATCH)
    for rows in runs:
        assert [row["_step"] for row in rows if "batch/train_loss" in row] == list(range(1, EPOCHS * per_step + 1))
        assert [row["_step"] for row in rows if per_epoch <= row.keys()] == [per_step, EPOCHS * per_step]
        assert {"test/loss", "test/accuracy", "total_train_time"} <= rows[-1].keys()
    told = sorted(rows[-1]["test/accuracy"] for rows in runs)
    assert told == sorted(run["test_accuracy"] for run in results(finished)["runs"])


# --- again


def test_its_configuration_gives_the_same_results_elsewhere(finished: Path, tmp_path: Path) -> None:
    arguments = ["--config", str(finished / "config.yaml"), "--output", str(tmp_path / "again")]
    assert main([*arguments, "--tracking.wandb", "disabled"]) == 0
    assert without_cost(results(tmp_path / "again")) == without_cost(results(finished))
    for run in RUNS:
        for name in ("metrics.jsonl", "predictions.parquet"):
            files = [_run_folder(output, run) / name for output in (finished, tmp_path / "again")]
            assert files[0].read_bytes() == files[1].read_bytes()


def test_again_in_the_same_folder_trains_nothing(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, stamps = results(copied), _stamps(copied)
    assert main(small(copied, "--strategy", "full,prompt")) == 0
    out = capsys.readouterr().out
    assert f"{len(RUNS)} of {len(RUNS)} runs were done before" in out
    assert "compiling" not in out
    assert _stamps(copied) == stamps
    assert results(copied) == before


def test_more_runs_and_strategies_in_the_same_folder(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, stamps = results(copied), _stamps(copied)
    assert main(small(copied, "--strategy", "prompt,partial", "--train.runs", 1)) == 0
    assert "1 of 2 runs were done before" in capsys.readouterr().out
    assert main(small(copied, "--strategy", "prompt", "--train.runs", 3)) == 0
    assert "2 of 3 runs were done before" in capsys.readouterr().out
    after = results(copied)
    assert {(run["strategy"], run["seed"]) for run in after["runs"]} == {*RUNS, ("partial", 42), ("prompt", 44)}
    assert [run for run in after["runs"] if run["strategy"] == "full"] == before["runs"][:2]
    assert {path: stamp for path, stamp in _stamps(copied).items() if path in stamps} == stamps
    assert settings(copied)["train"]["runs"] == 3
    assert set(settings(copied)["strategy"].split(",")) == {"full", "prompt", "partial"}


def _mark(output: Path) -> list[Path]:
    """Files that no experiment wrote."""
    names = ("notes.txt", "full/notes.txt", "full/seed-42/notes.txt", "mine/seed-1.txt", "mine/seed-1/result.json")
    mine = [output / name for name in names]
    for path in mine:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("mine")
    return mine


def test_overwrite_starts_over_and_removes_only_what_was_written(copied: Path, capsys: Any) -> None:
    mine, before = _mark(copied), results(copied)
    flags = ("--strategy", "full", "--pretrain.batch_size", 16)  # decides nothing without pretraining
    assert main(small(copied, *flags)) == 2  # without --overwrite
    assert "pretrain.batch_size was 32, now 16" in capsys.readouterr().err
    assert results(copied) == before
    assert main(small(copied, *flags, "--data.text_column", "body", "--overwrite", "--data.source", "none.csv")) == 2
    assert results(copied) == before  # a mistake costs nothing
    assert main(small(copied, *flags, "--overwrite")) == 0
    assert "were done before" not in capsys.readouterr().out
    assert [(run["strategy"], run["seed"]) for run in results(copied)["runs"]] == RUNS[:2]
    assert not (copied / "prompt").exists()
    assert all(path.read_text() == "mine" for path in mine)


# --- pmap


@pytest.fixture(scope="module")
def by_mode(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("modes")
    for mode in ("jit", "pmap"):
        flags = ("--parallel.mode", mode, "--parallel.devices", 4, "--strategy", "full", "--train.runs", 1)
        assert main(small(folder / mode, *flags)) == 0
    return {mode: folder / mode / "full" / "seed-42" for mode in ("jit", "pmap")}


def test_pmap_and_jit_on_four_devices_have_the_losses_of_one(finished: Path, by_mode: dict[str, Path]) -> None:
    """1e-4: the bound for losses over whole trajectories, where Adam amplifies the rounding of sums."""
    one, _ = metrics(finished / "full" / "seed-42")
    reference = [line["batch/train_loss"] for line in one]
    for mode in ("jit", "pmap"):
        steps, epochs = metrics(by_mode[mode])
        assert [line["batch/train_loss"] for line in steps] == pytest.approx(reference, rel=1e-4)
        assert len(epochs) == EPOCHS
    assert results(by_mode["pmap"].parents[1])["environment"]["devices"].startswith("4 x ")


def test_a_strategy_that_compiles_while_another_trains_has_the_same_results(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, make = list[bool](), Program.__init__

    def counted(self: Program, *arguments: Any, **keywords: Any) -> None:
        make(self, *arguments, **keywords)
        begun.append(arguments[-1])

    monkeypatch.setattr(Program, "__init__", counted)
    monkeypatch.setattr("flax_agnews.training.compiler.cores", lambda: 2)  # a single one never compiles ahead
    output = tmp_path / "out"
    assert main(small(output, "--strategy", "full,prompt", "--parallel.compile_ahead", "on")) == 0
    assert begun == [True, False]  # whether the program was waited for, before its strategy's turn
    assert without_cost(results(output))["runs"] == without_cost(results(finished))["runs"]
