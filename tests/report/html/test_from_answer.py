"""The page's content from an output folder: every number against the files it comes from."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.page_folders import CLASSES, answer_of, output_folder

from flax_agnews.report.answer import answer
from flax_agnews.report.html.content import PageContent
from flax_agnews.report.html.from_answer import page_content, write_page
from flax_agnews.runs.checks_file import CHECKS
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.result_files import read_results
from flax_agnews.runs.texts_file import TEXTS, remove_texts
from flax_agnews.system.files import write_yaml

SKILLS = {"full": 2.5, "head": 1.2}
REFERENCES = ["TF-IDF", "majority class"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return output_folder(tmp_path_factory.mktemp("out"), SKILLS)


@pytest.fixture(scope="module")
def content(folder: Path) -> PageContent:
    return page_content(answer_of(folder), folder)


def changed(folder: Path, to: Path, change) -> Path:
    """A copy of a folder with changed results.json."""
    shutil.copytree(folder, to)
    results = json.loads((to / "results.json").read_text())
    change(results)
    (to / "results.json").write_text(json.dumps(results))
    return to


def test_entries_have_the_scores_and_costs_of_their_runs(content: PageContent, folder: Path) -> None:
    runs = json.loads((folder / "results.json").read_text())["runs"]
    entries = {entry.name: entry for entry in content.entries}
    assert set(entries) == {*SKILLS, *REFERENCES}
    for name in SKILLS:
        entry, own = entries[name], [run for run in runs if run["strategy"] == name]
        for score, key in ((entry.accuracy, "test_accuracy"), (entry.f1, "test_macro_f1"), (entry.loss, "test_loss")):
            assert score.value == pytest.approx(np.mean([run[key] for run in own]), rel=1e-6)
            assert score.low < score.value < score.high
        costs = [run["cost"] for run in own]
        for cost, key in (("seconds", "train_seconds"), ("peak_bytes", "peak_memory_bytes"),
                          ("compile_seconds", "compile_seconds"), ("cache_seconds", "cache_seconds"),
                          ("tokens_per_second", "tokens_per_second")):  # fmt: skip
            assert getattr(entry.costs, cost) == pytest.approx(np.mean([one[key] for one in costs]))
        assert entry.costs.trained == own[0]["trainable_parameters"]
        assert (entry.kind, entry.seeds, entry.note) == ("strategy", 3, "")
    tfidf, majority = (entries[name] for name in REFERENCES)
    assert (tfidf.kind, tfidf.seeds, tfidf.costs.trained, tfidf.costs.seconds) == ("reference", 1, 321, 1.5)
    assert (majority.rank, majority.costs.seconds) == (None, None)


def test_curves_are_those_of_the_runs(content: PageContent, folder: Path) -> None:
    runs = json.loads((folder / "results.json").read_text())["runs"]
    for curve, run in zip(content.curves, runs, strict=True):
        assert (curve.strategy, curve.seed) == (run["strategy"], run["seed"])
        assert (curve.train_loss, curve.validation_accuracy) == (run["train_loss"], run["val_accuracy"])
        assert not curve.validation_f1  # of a folder that has none


def test_differences_are_paired_means_and_few_seeds_have_no_p(content: PageContent, folder: Path) -> None:
    evidence = answer_of(folder).evidence
    assert len(content.differences) == 3  # two strategies and TF-IDF; the majority class is no rival
    for one in content.differences:
        a, b = (evidence.accuracy(name).values.mean() for name in (one.a, one.b))
        assert one.difference.value == pytest.approx(a - b)
        assert one.difference.low < one.difference.value < one.difference.high
        assert one.p_holm is None


def test_five_seeds_have_p(tmp_path: Path) -> None:
    folder = output_folder(tmp_path, SKILLS, seeds=5)
    found = page_content(answer_of(folder), folder)
    assert all(one.p_holm is not None for one in found.differences)


def test_unfinished_seeds_diverged_runs_and_searches_are_said(folder: Path, tmp_path: Path) -> None:
    trials = [(0.1, 5, 0.4), (1.0, 5, 0.6), (10.0, 5, None), (1.0, 20, 0.7)]

    def change(results) -> None:
        results["diverged"] = ["head seed 45 at step 3"]
        search = {
            "factor": 1.0, "rates": [1e-4, 1e-4, 5e-4], "edge": "", "updates": 35, "cost": {"seconds": 2.0},
            "trials": [dict(zip(("factor", "updates", "val_accuracy", "val_loss"), (*t, t[2]), strict=True))
                       for t in trials],
        }  # fmt: skip
        results["search"] = {"full": search, "unfinished": search}

    copy = changed(folder, tmp_path / "out", change)
    write_yaml(copy / "config.yaml", {"strategy": "full,head", "train": {"seed": 42, "runs": 5}})
    found = page_content(answer_of(copy), copy)
    strategies = [entry for entry in found.entries if entry.kind == "strategy"]
    assert [entry.note for entry in strategies] == ["2 of 5 seeds are unfinished."] * 2
    assert any("head seed 45 at step 3" in note for note in found.notes)
    (search,) = found.search
    assert [(trial.factor, trial.accuracy) for trial in search.trials] == [(0.1, 0.4), (1.0, 0.7), (10.0, None)]
    assert (search.strategy, search.chosen, search.rates) == ("full", 1.0, "0.0001, 0.0005")


def test_costs_that_only_newer_runs_have(folder: Path, tmp_path: Path) -> None:
    names = ("tokens", "seconds_to_95", "flop", "optimizer_bytes", "kept_bytes")

    def change(results) -> None:
        for number, run in enumerate(results["runs"]):
            run["cost"] |= {name: float(number + 10 * k) for k, name in enumerate(names)}

    found = page_content(answer_of(changed(folder, tmp_path / "out", change)), tmp_path / "out")
    costs = {entry.name: entry.costs for entry in found.entries}
    for k, name in enumerate(names):
        assert getattr(costs["full"], name) == 10 * k + 1  # runs 0, 1, 2
        assert getattr(costs["head"], name) == 10 * k + 4


def test_tokens_are_speed_times_seconds_where_they_are_not_kept(folder: Path, tmp_path: Path) -> None:
    def older(results) -> None:
        for run in results["runs"]:
            del run["cost"]["tokens"]
        results["runs"][-1]["cost"]["train_seconds"] = None

    copy = changed(folder, tmp_path / "out", older)
    runs = json.loads((copy / "results.json").read_text())["runs"]
    costs = {entry.name: entry.costs for entry in page_content(answer_of(copy), copy).entries}
    own = [run["cost"] for run in runs if run["strategy"] == "full"]
    each = [cost["tokens_per_second"] * cost["train_seconds"] for cost in own]
    assert costs["full"].tokens == pytest.approx(np.mean(each))
    assert costs["head"].tokens is None


def test_texts_are_opened_only_where_they_are_kept_and_fit_the_predictions(
    content: PageContent, folder: Path, tmp_path: Path
) -> None:
    assert content.texts
    assert content.texts_note == ""
    assert {*content.all_wrong, *content.disputed} <= set(content.texts)
    copy = changed(folder, tmp_path / "out", lambda results: None)
    remove_texts(copy)
    without = page_content(answer_of(copy), copy)
    assert (without.texts, bool(without.texts_note)) == (None, True)
    assert all(one.texts == {} for one in without.confusions)
    assert "test text 2" not in str(without)
    assert (without.all_wrong, without.disputed) == (content.all_wrong, content.disputed)

    (copy / TEXTS).write_bytes(b"PAR1")
    (copy / CHECKS).write_bytes(b"PAR1")
    damaged = page_content(answer_of(copy), copy)
    assert any(CHECKS in note for note in damaged.notes)
    assert [check.count for check in damaged.data_checks] == [3, 0]
    assert "damaged" in page_content(answer_of(copy), copy).texts_note
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(output_folder(other, SKILLS, texts=100) / TEXTS, copy / TEXTS)
    assert "other texts" in page_content(answer_of(copy), copy).texts_note


def test_an_older_folder_has_a_page_with_what_there_is(tmp_path: Path) -> None:
    folder = output_folder(tmp_path, SKILLS, keep=False)
    found = page_content(answer(read_results(folder)), folder)
    assert [entry.rank for entry in found.entries] == [None, None]
    assert all(entry.accuracy.low is None and entry.f1 and entry.loss for entry in found.entries)
    assert (found.differences, found.calibration, found.texts, found.data_checks) == ([], [], None, [])
    assert len(found.confusions) == 2
    assert len(found.class_scores) == 2 * len(CLASSES)
    page = write_page(answer(read_results(folder)), folder).read_text("utf-8")
    assert "2 strategies compared" in page
    assert 'id="calibration"' not in page


def test_the_page_is_written_the_same_each_time_and_removed_with_the_experiment(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path / "out", lambda results: None)
    path = write_page(answer_of(copy), copy)
    before = path.read_bytes()
    assert path == copy / "report.html"
    assert write_page(answer_of(copy), copy).read_bytes() == before
    for word in ("config.yaml", "flax_agnews 0.1.0", "Test texts that also stand in training", "C: 3.0"):
        assert word.encode() in before
    OutputFolder(copy)._clear()
    assert not path.exists()
