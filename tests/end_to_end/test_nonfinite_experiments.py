"""Whole small comparisons whose numbers stop being finite: exit code, message, results, and how they go on."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.small_experiments import BODY, metrics, results, small, without_cost

from flax_agnews.cli import arguments
from flax_agnews.cli.compare import compare
from flax_agnews.config import DataConfig, ModelConfig
from flax_agnews.data.sources import Corpus, Texts, load_corpus
from flax_agnews.data.tokens import train_tokenizer
from flax_agnews.errors import Diverged
from flax_agnews.main import main
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.pretrained import load_base
from flax_agnews.strategies import REGISTRY, Strategy

EPOCHS, PER_EPOCH = 2, 3
BAD = "~"  # its token's embedding is infinite
HUGE = ("--full.learning_rate", "1e30")  # the first update is finite, and nothing after it
PROMPT = ("--strategy", "prompt", "--prompt.initializer", "normal", "--train.runs", 1)
SKIP = ("--train.on_nonfinite", "skip")


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error."""
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: stopped where numbers were not finite: ")
    return line


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    found = load_corpus(DataConfig(source="builtin", limit_train=80, limit_test=60))
    assert not any(BAD in text for split in (found.train, found.validation, found.test) for text in split.texts)
    return found


@pytest.fixture(scope="module")
def model(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Flags of a body in which one token is infinite."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(corpus.train.texts, BODY["vocab_size"])
    tokenizer.save(folder / "tokenizer")
    [token] = tokenizer.encode([BAD], 10)[0]
    base = load_base(ModelConfig(from_config=BODY), seed=42)
    table = base.parameters["transformer/wte/embedding"].copy()
    table[token] = np.inf
    replace(base, parameters={**base.parameters, "transformer/wte/embedding": table}).save(folder / "body")
    return ("--model.from_config", "null", "--model.name", folder / "body", "--model.tokenizer", folder / "tokenizer")


def written(folder: Path, corpus: Corpus, bad: str = "") -> Path:
    """The corpus as files; the first text of the split `bad` begins with the bad token."""
    folder.mkdir()
    for name in ("train", "validation", "test"):
        split: Texts = getattr(corpus, name)
        texts = [f"{BAD} {text}" if name == bad and row == 0 else text for row, text in enumerate(split.texts)]
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *zip(texts, split.labels.tolist(), strict=True)])
    return folder


# A learning rate that is far too high


def test_other_strategies_are_finished_and_the_error_lists_what_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(small(output, "--strategy", "full,prompt", *HUGE)) == 1
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    faults = [f"full seed {seed} at step 2 (loss and gradient)" for seed in (42, 43)]
    assert line == (
        f"error: stopped where numbers were not finite: {', '.join(faults)}. Lower the learning rate, "
        "set a lower --train.clip_norm, or go on without such updates (--train.on_nonfinite skip)"
    )
    assert "Traceback" not in out
    for seed in (42, 43):
        assert f"full seed {seed}: not finite at step 2" in out
    found = results(output)
    assert [(run["strategy"], run["seed"]) for run in found["runs"]] == [("prompt", 42), ("prompt", 43)]
    assert found["diverged"] == faults
    page = (output / "report.md").read_text()
    assert "full seed 42 at step 2" in page.split("Stopped where numbers were not finite")[1].splitlines()[0]
    assert (output / "accuracy_curves.png").is_file()
    for seed in (42, 43):
        steps, epochs = metrics(output / "full" / f"seed-{seed}")
        assert [step["step"] for step in steps] == [1, 2]
        assert steps[1]["skipped"] is True
        assert not epochs
        saved = {path.name for path in (output / "full" / f"seed-{seed}").glob("checkpoints/*")}
        assert saved <= {"step-00000001"}  # the update that was finite, if it was time to save
        assert not (output / "full" / f"seed-{seed}" / "result.json").exists()
    # the same again: nothing is repeated that was finished, and the runs stop once more
    assert main(small(output, "--strategy", "full,prompt", *HUGE)) == 1
    assert "2 of 4 runs were done before" in capsys.readouterr().out
    assert without_cost(results(output)) == without_cost(found)


def test_skipping_does_not_help_where_validation_is_not_finite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    flags = ("--strategy", "full", *HUGE, "--train.runs", 1)
    assert main(small(output, *flags, *SKIP)) == 1
    line = error_of(capsys)
    assert "full seed 42 after epoch 1 (validation logits)." in line
    assert "on_nonfinite" not in line
    steps, [epoch] = metrics(output / "full" / "seed-42")
    assert [step.get("skipped", False) for step in steps] == [False, True, True]
    assert epoch["val/loss"] is None
    assert epoch["val/accuracy"] is None
    assert {"val/loss", "val/accuracy", "val/macro_f1"} == {*epoch["nonfinite"]}
    assert results(output)["runs"] == []
    assert not (output / "report.md").exists()


def test_pretraining_stops_within_a_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    flags = ("--pretrain.epochs", 10_000, "--pretrain.learning_rate", "1e30", *SKIP)
    assert main(small(output, "--strategy", "prompt", *flags)) == 1
    line = error_of(capsys)
    assert line.endswith("Lower --pretrain.learning_rate")
    # The warm-up of 5 % climbs from zero: the first update does nothing, the second is huge.
    assert "pretrain at step 3 (loss and gradient)" in line
    assert not (output / "base").exists()
    assert not list(output.glob("prompt/*"))


# One bad text


@pytest.fixture(scope="module")
def skipped(corpus: Corpus, model: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that left out an update an epoch."""
    folder = tmp_path_factory.mktemp("skipped")
    source = written(folder / "data", corpus, "train")
    assert main(small(folder / "out", *model, "--data.source", source, *PROMPT, *SKIP)) == 0
    return folder


def test_a_run_counts_what_it_skipped(skipped: Path) -> None:
    output = skipped / "out"
    [run] = results(output)["runs"]
    steps, epochs = metrics(output / "prompt" / "seed-42")
    assert run["skipped_updates"] == sum("skipped" in step for step in steps) == EPOCHS
    assert all((step["batch/train_loss"] is None) == ("skipped" in step) for step in steps)
    for number, epoch in enumerate(epochs):
        inside = steps[number * PER_EPOCH :][:PER_EPOCH]
        assert sum("skipped" in step for step in inside) == 1  # the epoch has the text once
        assert epoch["train/loss"] == run["train_loss"][number]
        losses = [step["batch/train_loss"] for step in inside if "skipped" not in step]
        assert min(losses) <= epoch["train/loss"] <= max(losses)
    assert "nonfinite" not in json.dumps(epochs)
    page = (output / "report.md").read_text()
    assert "prompt seed 42 (2)" in page.split("Updates that were not finite")[1].splitlines()[0]


def test_stopped_and_gone_on_with_by_skipping(
    skipped: Path, model: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last good checkpoint is kept, and leads to the bytes of a run that skipped from the start."""
    output = tmp_path / "out"
    flags = (*model, "--data.source", skipped / "data", *PROMPT)
    assert main(small(output, *flags, "--checkpoint.every_steps", 1)) == 1
    steps, _ = metrics(skipped / "out" / "prompt" / "seed-42")
    first = next(step["step"] for step in steps if "skipped" in step)
    assert f"prompt seed 42 at step {first} (loss and gradient)." in error_of(capsys)
    assert main(small(output, *flags, *SKIP)) == 0
    told = capsys.readouterr().out
    assert first == 1 or f"prompt seed 42: goes on at step {first - 1}" in told
    for epoch in (1, 2):
        assert f"prompt seed 42: 1 update of epoch {epoch} not finite and left out" in told
    ours, theirs = (without_cost(results(folder)) for folder in (output, skipped / "out"))
    assert ours == theirs
    ours, theirs = (folder / "prompt" / "seed-42" / "metrics.jsonl" for folder in (output, skipped / "out"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_test_split_that_is_not_finite_gives_no_result(
    corpus: Corpus, model: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = written(tmp_path / "data", corpus, "test")
    assert main(small(tmp_path / "out", *model, "--data.source", source, *PROMPT)) == 1
    assert "(test logits)." in error_of(capsys)
    assert results(tmp_path / "out")["runs"] == []


# Side by side


def half_of_the_seeds_are_bad(name: str) -> Strategy:
    """A soft prompt that is infinite for every other seed."""
    entry = REGISTRY["prompt"]
    good = entry.build(entry.settings(tokens=4, initializer="normal", learning_rate=1e-2), GPT2Config(**BODY))

    def adapt(model: Any, key: Any) -> Any:
        adapted = good.adapt(model, key)
        bad = jax.random.bernoulli(jax.random.fold_in(key, 1))
        adapted.prompt.embedding[...] = jnp.where(bad, jnp.inf, adapted.prompt.embedding[...])
        return adapted

    return replace(good, name=name, adapt=adapt)


def test_of_runs_side_by_side_the_good_ones_are_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    config = arguments.parse(
        small(output, "--strategy", "prompt", "--train.runs", 4, "--train.parallel_seeds", 4)
    ).config
    with pytest.raises(Diverged) as caught:
        compare(config, [half_of_the_seeds_are_bad("mine")])
    seeds = {run["seed"] for run in results(output)["runs"]}
    bad = {42, 43, 44, 45} - seeds
    assert seeds
    assert bad
    assert caught.value.faults == [f"mine seed {seed} at step 1 (loss and gradient)" for seed in sorted(bad)]
    for seed in bad:
        steps, _ = metrics(output / "mine" / f"seed-{seed}")
        assert all(step["skipped"] for step in steps)
    for seed in seeds:
        assert "skipped" not in json.dumps(metrics(output / "mine" / f"seed-{seed}"))
    assert "Stopped where numbers were not finite" in (output / "report.md").read_text()
    assert "test " in capsys.readouterr().out


# No better than the majority class


@pytest.mark.parametrize("share", [None, 0.9], ids=["classes as they are", "nearly all of one class"])
def test_a_run_that_learned_nothing_says_so(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float | None
) -> None:
    """Random weights and a rate that moves nothing guess one text in four or so: little, or more than it seems."""
    rng, data = np.random.default_rng(0), corpus
    if share:
        frequent = {
            name: replace(split, labels=np.where(rng.random(len(split.labels)) < share, 2, split.labels))
            for name in ("train", "validation", "test")
            for split in [getattr(corpus, name)]
        }
        data = replace(corpus, **frequent)
    output = tmp_path / "out"
    source = written(tmp_path / "data", data)
    flags = ("--data.source", source, "--strategy", "prompt", "--prompt.learning_rate", "1e-12")
    assert main(small(output, *flags)) == 0
    told, runs, page = capsys.readouterr().out, results(output)["runs"], (output / "report.md").read_text()
    level = np.mean(np.asarray(data.test.labels) == np.bincount(data.train.labels).argmax())
    idle = {run["seed"] for run in runs if run["test_accuracy"] <= level}
    assert bool(idle) == bool(share)
    said = "no better than always answering the most frequent class"
    assert {seed for seed in (42, 43) if f"prompt seed {seed}: {said} ({level:.3f})" in told} == idle
    [_, *rest] = page.split("No better than the majority class")
    assert {seed for seed in (42, 43) for line in rest if f"prompt seed {seed}" in line.splitlines()[0]} == idle
