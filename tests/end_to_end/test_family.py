"""Every strategy trains on a few real texts, and the benchmark that compares all of them writes its page."""

import json
import shutil
from pathlib import Path

import pytest
from support.kept_predictions import assert_scores_of_predictions
from support.reference import random_gpt2, saved
from support.report_results import page_tables
from support.small_experiments import results, small
from transformers import GPT2Model

from benchmarks import family
from flax_agnews.main import main
from flax_agnews.report.evidence import TITLES
from flax_agnews.strategies import REGISTRY

pytestmark = pytest.mark.long


def test_every_strategy_trains_on_real_texts_and_is_in_the_report(tmp_path: Path, shared: Path) -> None:
    adapters = ("--prompt.tokens", 4, "--prefix.tokens", 4, "--lora_prompt.tokens", 4)
    flags = ("--strategy", "every", "--data.source", shared / "ag_news", "--train.runs", 1, "--train.epochs", 3)
    assert main(small(tmp_path, *flags, *adapters, "--train.cache_frozen", "off")) == 0
    found = {run["strategy"]: run for run in results(tmp_path)["runs"]}
    assert list(found) == [entry.name for entry in REGISTRY]
    for run in found.values():
        losses = _losses(tmp_path / run["strategy"] / f"seed-{run['seed']}")
        assert len(set(losses)) == len(losses) > 2
        assert len(run["val_accuracy"]) == 3
    assert_scores_of_predictions(tmp_path, list(found))
    tables = page_tables((tmp_path / "report.md").read_text())
    for name in ("accuracy", "best epoch", "training"):
        [table] = [table for table in tables if name in table[0] and "strategy" in table[0]]
        place = table[0].index("strategy")
        assert {row[place].replace("\\", "") for row in table[1:]} - set(TITLES.values()) == set(found)


def _losses(folder: Path) -> list[float]:
    """Of every update."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line["batch/train_loss"] for line in lines if "batch/train_loss" in line]


@pytest.fixture
def model(tmp_path: Path, shared: Path) -> str:
    """A tiny body with GPT-2's vocabulary."""
    body = random_gpt2(GPT2Model, vocab_size=50257, n_positions=256, n_embd=16, n_layer=2, n_head=2)
    folder = saved(body, tmp_path / "model")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(shared / "gpt2_tokenizer" / name, folder)
    return folder


def test_the_benchmarks_page_has_what_results_have(tmp_path: Path, model: str, shared: Path) -> None:
    flags = ["--model", model, "--data", str(shared / "ag_news"), "--output", str(tmp_path / "runs")]
    flags += ["--strategy", "head,norms", "--rows", "64", "--epochs", "1", "--trials", "2", "--runs", "1"]
    family.main([*flags, "--results", str(tmp_path / "found")])
    found = json.loads((tmp_path / "found" / "family.json").read_text())
    scores, rates, *_ = page_tables((tmp_path / "found" / "family.md").read_text())
    accuracy = {name: found["summary"][name]["test_accuracy"]["mean"] for name in ("head", "norms")}
    rows = {row[1]: row for row in scores[1:]}
    assert {*rows} == {*accuracy, *TITLES.values()}
    assert all(rows[name][2] == f"{mean:.3f}" for name, mean in accuracy.items())
    for name, _, factor, _ in rates[1:]:
        assert factor.startswith(f"x {found['search'][name]['factor']:.3g}")
    assert (tmp_path / "found" / "family.png").stat().st_size > 1000
    assert "<!doctype html>" in (tmp_path / "found" / "family.html").read_text().lower()
