"""The benchmark beside PyTorch, tiny: what the other side trains and pads, the order of measurements, the ratios."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.reference import Reference, random_gpt2, saved
from transformers import DataCollatorWithPadding

from benchmarks import vs_pytorch
from benchmarks.support import huggingface_trainer, pytorch_trainer, training_steps, vs_pytorch_tables
from benchmarks.support.workers import MEGABATCH, WARM_UP, NotMeasured, Settings, Suite, Worker, interleave

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
BODY = {"vocab_size": 50257, "n_positions": 300, "n_embd": 16, "n_layer": 2, "n_head": 2}
FULL = 50257 * 16 + 300 * 16 + 2 * (12 * 16 * 16 + 13 * 16) + 2 * 16 + 4 * 16  # closed form, with the head
PARTIAL = FULL - 50257 * 16 - 300 * 16 - (12 * 16 * 16 + 13 * 16)


@pytest.fixture(scope="module")
def settings(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    model = saved(random_gpt2(**BODY), tmp_path_factory.mktemp("gpt2"))
    return Settings(model, str(shared / "gpt2_tokenizer"), str(shared / "ag_news"), batch_size=2, repeats=2)


def trainer(settings: Settings, strategy: str, precision: str = "float32") -> pytorch_trainer.Trainer:
    data, tokenizer = pytorch_trainer.load_split(settings)
    return pytorch_trainer.Trainer(settings, Suite(strategy, precision), data, tokenizer.end_of_text, "cpu")


def test_the_command_writes_a_table_and_a_picture(shared: Path, tmp_path: Path) -> None:
    """One suite in two processes, one text an update."""
    command = [sys.executable, "-m", "benchmarks.vs_pytorch", "--suites", "full-float32", "--repeats", "2"]
    command += ["--model", json.dumps({**BODY, "n_layer": 1}), "--batch_size", "1", "--device", "cpu", "--shapes", "1"]
    command += ["--data", shared / "ag_news", "--tokenizer", shared / "gpt2_tokenizer", "--results", tmp_path]
    alone = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run(command, cwd=ROOT, env=alone, check=True, capture_output=True, text=True)
    record = json.loads((tmp_path / "vs_pytorch.json").read_text())
    assert record["made"]["model"]["n_layer"] == 1
    contenders = record["suites"]["full-float32"]["contenders"]
    assert set(contenders) == {"pad 256", "pad 128", "dynamic", "length-grouped", "ours"}
    for contender in contenders.values():
        assert len(contender["samples"]) == 2
        assert all(seconds > 0 and tokens > 0 for seconds, tokens, _ in contender["samples"])
    tokens = {name: [sample[1] for sample in contender["samples"]] for name, contender in contenders.items()}
    assert tokens["pad 256"] == tokens["dynamic"]  # the very same texts; ours has them, and a batch more
    assert all(theirs < ours for theirs, ours in zip(tokens["dynamic"], tokens["ours"], strict=True))
    assert record["suites"]["full-float32"]["ours"]["ours"]["compile_seconds"] > 0
    page = (tmp_path / "vs_pytorch.md").read_text()
    assert "| float32 full | dynamic | 2 | 3 | " in page
    assert (tmp_path / "vs_pytorch.png").read_bytes().startswith(b"\x89PNG")
    made = record["made"]
    assert vs_pytorch.kept(tmp_path / "vs_pytorch.json", made, record["settings"]) == record["suites"]
    assert vs_pytorch.kept(tmp_path / "vs_pytorch.json", {**made, "commit": "other"}, record["settings"]) == {}


# Opponents


@pytest.mark.parametrize(("strategy", "trained"), [("full", FULL), ("partial", PARTIAL), ("prompt", 20 * 16 + 4 * 16)])
def test_what_an_opponent_trains(settings: Settings, strategy: str, trained: int) -> None:
    theirs = trainer(settings, strategy)
    before = {name: p.detach().clone() for name, p in theirs.model.named_parameters()}
    theirs.step([0, 1])
    moved = [name for name, p in theirs.model.named_parameters() if not torch.equal(p, before[name])]
    assert sum(before[name].numel() for name in moved) == trained


@pytest.mark.parametrize("width", [256, 128, None])
def test_padding_changes_no_loss(settings: Settings, width: int | None) -> None:
    """Each text alone and unpadded, with a pooling of its own, gives the loss of the padded batch."""
    theirs = trainer(settings, "full")
    rows = [3, 4, 5]
    texts = [theirs.data.tokens[row] for row in rows]
    assert len({len(text) for text in texts}) > 1
    assert max(map(len, texts)) < 128
    alone = Reference(theirs.model.transformer, theirs.model.score.weight.detach().numpy().T)
    expected = alone.loss(texts, theirs.data.labels[rows]).item()
    # float32 sums of another order: 1e-5 of the loss, far above rounding and far below what a wrong mask changes
    assert theirs.step(rows, width) == pytest.approx(expected, rel=1e-5)


def test_only_real_tokens_count(settings: Settings) -> None:
    theirs = trainer(settings, "prompt", "bfloat16")
    lengths = theirs.data.tokens.lengths
    longest = int(np.argmax(lengths))
    assert theirs.measure([[0, longest]]).tokens == lengths[0] + lengths[longest]
    width = int(lengths[longest]) - 1  # cuts it
    sample = theirs.measure([[longest], [longest]], width)
    assert (sample.tokens, sample.texts) == (2 * width, 2)


def test_length_grouped_batches_are_of_like_length_and_average() -> None:
    lengths = np.random.default_rng(0).permutation(100)
    found = pytorch_trainer.grouped(lengths, batch_size=2, repeats=5, seed=0)
    assert sorted(found) == [WARM_UP, *range(5)]
    for repeat in range(5):
        first, second = (lengths[rows] for rows in found[repeat])
        # all 100 lengths are in the megabatch: neighbours in the sorted order stay together, mirror images add up
        assert {np.ptp(first), np.ptp(second)} == {1}
        assert first.sum() + second.sum() == 4 * 49.5
    counted = [tuple(rows) for repeat in range(5) for rows in found[repeat]]
    assert len(set(counted)) == 10
    assert tuple(found[WARM_UP][0]) == max(counted, key=lambda rows: lengths[list(rows)].sum())


def test_a_repeat_on_a_gpu_has_all_quantiles() -> None:
    lengths = np.random.default_rng(0).permutation(100)
    found = pytorch_trainer.grouped(lengths, batch_size=2, repeats=2, seed=0, each=10)
    for repeat in range(2):
        assert len({tuple(rows) for rows in found[repeat]}) == 10
        assert sum(lengths[rows].sum() for rows in found[repeat]) == 5 * 4 * 49.5


class Compiled:
    """Stands for a module that `torch.compile` returned: it has no length."""

    def __init__(self, module: torch.nn.Module, fault: Exception | None = None) -> None:
        self.module, self.fault = module, fault
        self.widths: list[int] = []

    def __len__(self) -> int:
        raise TypeError("object of type 'OptimizedModule' has no len()")

    def __call__(self, **batch: torch.Tensor) -> Any:
        self.widths.append(batch["input_ids"].shape[1])
        if self.fault:
            raise self.fault
        return self.module(**batch)


def test_a_compiled_contender_runs_every_width_before_it_counts(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = trainer(settings, "full")
    rows = {WARM_UP: [[0, 1]], 0: [[2], [3]], 1: [[4], [5]]}
    model = Compiled(theirs.model)
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: model)
    contender = pytorch_trainer.compiled(theirs, rows, limit=60)
    contender(WARM_UP)
    needed = {int(theirs.data.tokens.lengths[batch].max()) for batches in rows.values() for batch in batches}
    assert sorted(model.widths) == sorted(needed)
    assert contender(0).texts == 2
    with pytest.raises(NotMeasured, match="not done after 0 s"):
        pytorch_trainer.compiled(theirs, rows, limit=0)(WARM_UP)
    model.fault = ValueError("no compiler\nand so on")
    with pytest.raises(NotMeasured, match=r"ValueError: no compiler$"):
        contender(WARM_UP)


def test_the_trainer_is_measured_over_its_own_batches(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """50 batches of two texts in the Trainer's own order, without the first two; grouped, they need less padding."""

    class Collator(DataCollatorWithPadding):
        def __call__(self, texts: Any) -> Any:
            batch = super().__call__(texts)
            padding[-1] += int((batch["attention_mask"] == 0).sum())
            return batch

    monkeypatch.setattr(huggingface_trainer, "DataCollatorWithPadding", Collator)
    padding: list[int] = []
    theirs = trainer(settings, "full")
    new = partial(pytorch_trainer.make_model, settings, "full", 4, theirs.padding)
    opponent = huggingface_trainer.HuggingFaceTrainer(new, settings, theirs.data, False, "cpu")
    for by_length in (False, True):
        padding.append(0)
        sample = opponent.measure(0, by_length)
        assert sample.seconds > 0
        assert sample.texts == 48 * 2
        assert 0.7 < sample.tokens / sample.texts / theirs.data.tokens.lengths.mean() < 1.3
    assert padding[1] < padding[0] / 4


def test_as_many_texts_are_read_as_a_megabatch_has(settings: Settings) -> None:
    assert len(pytorch_trainer.load_split(settings)[0]) == MEGABATCH * settings.batch_size


def test_both_sides_multiply_in_float32(settings: Settings, tmp_path: Path) -> None:
    """Not in TF32, JAX's default on a GPU; PyTorch is asked even where its default was changed."""
    torch.set_float32_matmul_precision("medium")
    suite = Suite("full", "float32")
    ours = training_steps.SuiteSteps(settings, *suite, str(tmp_path))
    assert ours.program.setup.model.compute.precision == "highest"
    rows = {repeat: [[0, 1]] * 2 for repeat in range(WARM_UP, settings.repeats)}
    pytorch_trainer.build(settings, suite, rows, "cpu")
    assert torch.get_float32_matmul_precision() == "highest"


# The harness


def test_a_failure_over_there_is_told_here() -> None:
    with (
        pytest.raises(RuntimeError, match="KeyError: 'made'"),
        Worker("benchmarks.support.vs_pytorch_tables:model_text", ({},), False, {}),
    ):
        pass


def test_every_repeat_runs_every_contender_once() -> None:
    class Told:
        def __init__(self, *names: str) -> None:
            self.names = names

        def measure(self, name: str, repeat: int) -> Any:
            calls.append((repeat, name))
            return (1.0, repeat, 1)

    calls: list[tuple[int, str]] = []
    workers: list[Any] = [Told("a", "b"), Told("c")]
    samples = interleave(workers, 20, 0, lambda *_: None)
    rounds = [calls[start : start + 3] for start in range(0, len(calls), 3)]
    assert [{repeat for repeat, _ in one} for one in rounds] == [{repeat} for repeat in range(WARM_UP, 20)]
    assert all({name for _, name in one} == {"a", "b", "c"} for one in rounds)
    assert len({tuple(name for _, name in one) for one in rounds}) > 1  # the order changes
    assert {name: [s[1] for s in every] for name, every in samples.items()} == {name: list(range(20)) for name in "abc"}


def test_a_contender_that_is_not_measured_stops_no_other() -> None:
    class Half:
        names = ("a", "b")

        def measure(self, name: str, repeat: int) -> Any:
            if name == "b":
                raise NotMeasured("too slow")
            return (1.0, repeat, 1)

    missing: dict[str, str] = {}
    workers: list[Any] = [Half()]
    samples = interleave(workers, 3, 0, lambda *_: None, missing.__setitem__)
    assert ({name: len(every) for name, every in samples.items()}, missing) == ({"a": 3}, {"b": "too slow"})
    with pytest.raises(NotMeasured):
        interleave(workers, 3, 0, lambda *_: None)


def test_a_worker_gives_the_reason() -> None:
    with (
        Worker("support.unmeasured:build", (), False, {}) as worker,
        pytest.raises(NotMeasured, match="too slow"),
    ):
        worker.measure("b", 0)


# The tables


def suite(ours: float, **others: float) -> dict[str, Any]:
    """Speeds -> a suite whose every repeat but the median is far off."""
    contenders = {"ours": ours, **{name.replace("_", " "): speed for name, speed in others.items()}}
    facts = {"compile_seconds": 36.0, "cache_seconds": 0.0, "cached_tokens": 1000, "waste": 0.05, "shapes": 6}
    return {
        "mean_tokens": 50.0,
        "ours": {"ours": facts},
        "contenders": {
            name: {"mean_tokens": 50.0, "samples": [[1.0, speed / 9, 2], [2.0, 2 * speed, 2], [1.0, 9 * speed, 2]]}
            for name, speed in contenders.items()
        },
    }


def test_ratios_are_of_medians() -> None:
    record = {"suites": {"full-float32": suite(300.0, pad_256=30.0)}}
    assert vs_pytorch_tables.ratio(record, "full-float32", "pad 256") == pytest.approx(10)
    assert vs_pytorch_tables.ratio(record, "full-float32", "dynamic") is None
    assert vs_pytorch_tables.ratio(record, "prompt-float32", "dynamic") is None
    assert vs_pytorch_tables.whole_experiment(record) is None


def test_the_whole_experiment_is_the_sum_of_its_epochs() -> None:
    suites = {f"{name}-float32": suite(1000.0, pad_256=100.0) for name in vs_pytorch_tables.STRATEGIES}
    suites["partial-float32"]["ours"]["ours"]["cache_seconds"] = 0.5  # 2,000 tokens a second
    hours = vs_pytorch_tables.whole_experiment({"suites": suites})
    assert hours is not None
    tokens = 108_000 * 50  # an epoch
    assert hours["full"]["theirs"] == pytest.approx(15 * tokens / 100 / 3600)
    assert hours["full"]["ours"] == pytest.approx(15 * tokens / 1000 / 3600 + 0.01)
    assert hours["partial"]["ours"] - hours["full"]["ours"] == pytest.approx(tokens / 2000 / 3600)
