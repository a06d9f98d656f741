"""Merged folders against the folder of one experiment that has all of their runs."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from support.output_folders import FULL, HEAD, experiment, output_folder, with_data_files
from support.refusals import refused

from flax_agnews.report import read_answer, read_results, write_report
from flax_agnews.report.merge import write_merged
from flax_agnews.runs.checks_file import read_checked
from flax_agnews.runs.merged_file import read_merged_file
from flax_agnews.runs.results import json_of

EVERY = [(name, seed) for name in ("full", "head") for seed in (42, 43, 44)]
PARTS = [[EVERY[0], EVERY[1]], [EVERY[2], EVERY[1]], EVERY[3:]]
"""Other seeds, one of them twice, and another strategy."""


def parts(path: Path, **settings: Any) -> list[Path]:
    found = []
    for number, runs in enumerate(PARTS):
        results = experiment()
        results["environment"]["devices"] = "1 x cpu" if number < 2 else "1 x gpu"
        found.append(output_folder(path / f"part{number}", results, runs, **settings))
    with_data_files(found[1])
    return found


def summary_of(folder: Path) -> dict[str, Any]:
    """All that a report says of scores, by name."""
    answer = read_answer(folder, read_results(folder))
    entries = {one.name: (one.rank, one.mean, one.accuracy, one.macro_f1, one.loss) for one in answer.entries}
    return {**entries, "differences": {frozenset((one.a, one.b)): abs(one.mean or 0) for one in answer.differences}}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[::2])
def test_merged_folders_answer_as_the_whole_experiment_does(order: tuple[int, ...], tmp_path: Path) -> None:
    whole = with_data_files(output_folder(tmp_path / "whole", experiment()))
    folders = parts(tmp_path)
    output = write_merged([folders[number] for number in order], tmp_path / "merged")
    assert summary_of(output) == summary_of(whole)
    assert "TF-IDF" in summary_of(output)
    written = {path.name for path in write_report(output)}
    assert written == {path.name for path in write_report(whole)}
    assert read_checked(output).keys() == read_checked(whole).keys()  # type: ignore[union-attr]
    ours, theirs = (json_of(read_results(folder).summary) for folder in (output, whole))
    assert ours == theirs


def test_a_merged_folder_can_be_merged_further_with_the_same_end(tmp_path: Path) -> None:
    one, other, machine = parts(tmp_path)
    once = write_merged([one, machine, other], tmp_path / "once")
    twice = write_merged([write_merged([one, machine], tmp_path / "first"), other], tmp_path / "twice")
    assert read_results(once).environment["devices"] == "1 x cpu (full); 1 x gpu (head)"
    assert (once / "results.json").read_bytes() == (twice / "results.json").read_bytes()
    assert (read_merged_file(once), read_merged_file(twice)) != (None, None)
    assert read_merged_file(once).planned == read_merged_file(twice).planned  # type: ignore[union-attr]
    assert read_merged_file(once).settings == read_merged_file(twice).settings  # type: ignore[union-attr]


def test_each_run_keeps_the_machine_that_it_ran_on(tmp_path: Path) -> None:
    folders = parts(tmp_path)
    results = json.loads((folders[1] / "results.json").read_text())
    results["environment"]["devices"] = "2 x cpu"
    results["flax_agnews"] = "0.9"
    (folders[1] / "results.json").write_text(json.dumps(results))
    found = read_results(write_merged(folders, tmp_path / "merged"))
    assert {(run.strategy, run.seed): (run.environment or {})["devices"] for run in found.runs} == {
        **{("full", 42): "1 x cpu", ("full", 43): "1 x cpu", ("full", 44): "2 x cpu"},
        **{("head", seed): "1 x gpu" for seed in (42, 43, 44)},
    }
    assert found.environment == {
        "jax": "0.10.2",
        "devices": "1 x cpu (full seeds 42, 43); 2 x cpu (full seed 44); 1 x gpu (head)",
    }
    assert found.flax_agnews == "0.1.0 (head, full seeds 42, 43); 0.9 (full seed 44)"


def test_settings_that_may_differ_are_left_out(tmp_path: Path) -> None:
    other = experiment(head=HEAD)
    other["settings"] |= {"seed": 52, "micro_batch_tokens": 1024}
    folders = [output_folder(tmp_path / "a", experiment(full=FULL)), output_folder(tmp_path / "b", other)]
    found = read_results(write_merged(folders, tmp_path / "merged"))
    assert found.settings == {"epochs": 3, "batch_size": 32, "schedule": "linear", "runs": 3}


def test_searches_of_all_folders_are_kept_and_must_agree(tmp_path: Path) -> None:
    search = {"factor": 1.0, "rates": [0.1], "edge": "", "trials": [], "updates": 9, "cost": {"seconds": 2.0}}
    folders = []
    for name, factors in {"full": {"full": 1.0, "lora": 3.0}, "head": {"head": 1.0}, "ia3": {"lora": 9.0}}.items():
        results = experiment(**{name: FULL})
        results["search"] = {strategy: search | {"factor": factor} for strategy, factor in factors.items()}
        folders.append(output_folder(tmp_path / name, results))
    found = read_results(write_merged(folders[:2], tmp_path / "merged")).search
    assert {name: one.factor for name, one in (found or {}).items()} == {"full": 1.0, "lora": 3.0, "head": 1.0}
    assert "lora: factor on the rates: 3.0 and 9.0" in refused(write_merged, folders, tmp_path / "all")


def test_predictions_are_taken_from_whom_has_them(tmp_path: Path) -> None:
    folders = [output_folder(tmp_path / name, experiment()) for name in "ab"]
    kept = Path("full") / "seed-42" / "predictions.parquet"
    (folders[0] / kept).unlink()
    output = write_merged(folders, tmp_path / "merged")
    assert (output / kept).read_bytes() == (folders[1] / kept).read_bytes()


def test_a_merge_may_be_rewritten_and_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    folders, output = parts(tmp_path), tmp_path / "merged"
    (write_merged(folders, output) / "own notes.txt").write_text("mine")
    write_merged(folders[2:], output)
    assert sorted(path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()) == [
        *(f"head/seed-{seed}/predictions.parquet" for seed in (42, 43, 44)),
        *("merged.yaml", "own notes.txt", "results.json"),
    ]


def test_folders_of_something_else_are_left_alone(tmp_path: Path) -> None:
    folders = parts(tmp_path)
    own = output_folder(tmp_path / "own", experiment())
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "file").write_text("mine")
    merged = write_merged(folders, tmp_path / "merged")
    trained = write_merged(folders, tmp_path / "trained in")
    (trained / "config.yaml").write_text("strategy: full")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for place, why in {
        own: "something else",
        tmp_path / "things": "something else",
        folders[0]: "one of the merged folders",
        trained: "folder of an experiment",
        tmp_path / "things" / "file": "no folder",
    }.items():
        message = refused(write_merged, folders, place)
        assert message.startswith(f"--output {place}: ")
        assert why in message
    assert "one of the merged folders" in refused(write_merged, [*folders, merged], merged)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("name", ["../../outside", ".hidden", "a\\b", "a\nb"])
def test_a_strategy_is_never_written_outside_the_folder(name: str, tmp_path: Path) -> None:
    results = experiment(full=FULL)
    folder = output_folder(tmp_path / "a", results)
    for run in results["runs"]:
        run["strategy"] = name
    (folder / "results.json").write_text(json.dumps(results))
    assert "is no name of a folder" in refused(write_merged, [folder], tmp_path / "deep" / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("content", ["[1]", "a: [", "folders: 3", "folders: []\nplanned: {full: [x]}", "other: 1"])
def test_a_damaged_description_is_one_line(content: str, tmp_path: Path) -> None:
    output = write_merged(parts(tmp_path), tmp_path / "merged")
    (output / "merged.yaml").write_text(content)
    assert refused(write_merged, [output], tmp_path / "again").startswith(str(output / "merged.yaml"))
