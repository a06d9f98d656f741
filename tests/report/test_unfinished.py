"""Runs that a folder planned or began, and that its results lack."""

import json
from pathlib import Path

import pytest
from support.output_folders import experiment, output_folder

from flax_agnews.report import read_answer, read_results, write_report
from flax_agnews.report.merge import write_merged
from flax_agnews.report.unfinished import runs_texts, unfinished


def begun(folder: Path, name: str, seed: int) -> Path:
    place = folder / name / f"seed-{seed}"
    place.mkdir(parents=True)
    (place / "identity.json").write_text("{}")
    return place


def sentences(folder: Path) -> list[str]:
    return unfinished(folder, read_results(folder))


def test_a_finished_folder_has_nothing_to_say(tmp_path: Path) -> None:
    assert sentences(output_folder(tmp_path / "a", experiment())) == []
    assert sentences(output_folder(tmp_path / "b", experiment(), [("full", 42)], config=False)) == []


def test_runs_are_named_by_how_far_they_came(tmp_path: Path) -> None:
    results = experiment()
    results["settings"]["runs"] = 5
    results["diverged"] = ["head seed 43 at step 7 (loss)"]
    folder = output_folder(tmp_path / "a", results, [("full", 42), ("full", 43), ("head", 42)])
    begun(folder, "head", 43)
    begun(folder, "head", 44)
    begun(folder, "lora", 7)
    (begun(folder, "full", 44) / "result.json").write_text("{}")
    expected = [
        "Finished after results.json was written (the same command adds them): full seed 44.",
        "Begun and not finished: head seed 44, lora seed 7.",
        "Planned and not begun: full seeds 45, 46, head seeds 45, 46.",
    ]
    assert sentences(folder) == expected
    assert list(read_answer(folder, read_results(folder)).evidence.notes) == expected
    write_report(folder)
    page = (folder / "report.md").read_text("utf-8")
    assert [line for line in expected if line not in page] == []


def test_merging_finishes_what_another_machine_did(tmp_path: Path) -> None:
    results = experiment()
    one = output_folder(tmp_path / "a", results, [("full", 42), ("head", 42)])
    other = output_folder(tmp_path / "b", results, [("full", 43), ("full", 44)])
    assert sentences(one) == ["Planned and not begun: full seeds 43, 44, head seeds 43, 44."]
    merged = write_merged([one, other], tmp_path / "merged")
    assert sentences(merged) == ["Planned and not begun: head seeds 43, 44."]
    rest = output_folder(tmp_path / "c", results, [("head", 43), ("head", 44)])
    assert sentences(write_merged([merged, rest], tmp_path / "all")) == []


@pytest.mark.parametrize("content", ["", "a: [", "[1]", "strategy: 3", "strategy: full\ntrain: {seed: x, runs: 2}"])
def test_a_damaged_configuration_is_at_most_a_note(content: str, tmp_path: Path) -> None:
    folder = output_folder(tmp_path / "a", experiment())
    (folder / "config.yaml").write_text(content)
    said = sentences(folder)
    assert all(str(folder / "config.yaml") in line for line in said)
    assert len(said) == (content in ("", "a: [", "[1]"))


def test_a_configuration_of_endless_runs_is_none(tmp_path: Path) -> None:
    folder = output_folder(tmp_path / "a", experiment())
    (folder / "config.yaml").write_text(json.dumps({"strategy": "full", "train": {"seed": 1, "runs": 10**12}}))
    assert sentences(folder) == []


def test_seeds_in_a_row_are_a_range() -> None:
    runs = [("b", 3), ("a", 1), ("b", 2), ("b", 1), ("c", 1), ("c", 3), ("c", 4), ("d e", 5), ("d e", 4)]
    assert list(runs_texts(runs)) == ["a seed 1", "b seeds 1 to 3", "c seeds 1, 3, 4", "d e seeds 4, 5"]
