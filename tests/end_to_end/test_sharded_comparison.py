"""A comparison in three shards, merged, against the same comparison in one piece."""

from pathlib import Path

import pytest
from support.refusals import refused
from support.small_experiments import ONE_LAYER, results, settings, small, without_cost

from flax_agnews.cli import arguments
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.main import main
from flax_agnews.report.__main__ import main as report
from flax_agnews.report.unfinished import unfinished
from flax_agnews.runs.result_files import read_results

STRATEGIES, SEEDS = ("prompt", "head"), (42, 43, 44)
FLAGS = (
    *("--strategy", ",".join(STRATEGIES), "--train.runs", len(SEEDS), "--train.parallel_seeds", 2),
    *("--search.trials", 2, "--train.epochs", 1, *ONE_LAYER),
)
DEALT = {
    1: {("prompt", 42), ("prompt", 43), ("head", 44)},
    2: {("prompt", 44)},
    3: {("head", 42), ("head", 43)},
}
"""Shard -> its runs: four groups of seeds, dealt to three."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole") / "out"
    assert main(small(output, *FLAGS)) == 0
    return output


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The folders of the shards, each trained by the same command, as the tasks of a job array do."""
    output = tmp_path_factory.mktemp("shards") / "out"
    for task in range(3):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"ID": task, "MIN": 0, "MAX": 2, "COUNT": 3}.items():
                patch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
            assert main(small(output, *FLAGS, "--shard", "auto")) == 0
    return {number: output / f"shard-{number}-of-3" for number in (1, 2, 3)}


def runs_in(folder: Path) -> set[tuple[str, int]]:
    return {(path.parts[-3], int(path.parent.name[5:])) for path in folder.glob("*/seed-*/identity.json")}


def test_each_shard_trains_its_runs_and_says_what_the_others_do(shards: dict[int, Path]) -> None:
    assert {number: runs_in(folder) for number, folder in shards.items()} == DEALT
    assert [settings(folder)["parallel"]["shard"] for folder in shards.values()] == ["1/3", "2/3", "3/3"]
    said = (
        "Shard 2/3 of a comparison, to be merged with the others, which train: "
        "head seeds 42 to 44, prompt seeds 42, 43."
    )
    assert unfinished(shards[2], read_results(shards[2])) == [said]
    assert said in (shards[2] / "report.md").read_text("utf-8")
    assert {path.stem for path in shards[3].glob("search/*")} == {"head"}  # no trials for others' runs


def test_merged_shards_are_the_whole_comparison(
    whole: Path, shards: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    merged = tmp_path / "merged"
    assert report([*map(str, shards.values()), "--output", str(merged)]) == 0
    assert "Planned" not in capsys.readouterr().out
    ours, theirs = without_cost(results(merged)), without_cost(results(whole))
    for found in (ours, theirs):
        for strategy in found["search"]:
            del found["search"][strategy]["cost"]
        for run in found["runs"]:
            run.pop("environment", None)
    assert ours["runs"] == theirs["runs"]
    assert ours["search"] == theirs["search"]
    for name, seed in [(name, seed) for name in STRATEGIES for seed in SEEDS]:
        place = Path(name) / f"seed-{seed}" / "predictions.parquet"
        assert (merged / place).read_bytes() == (whole / place).read_bytes()


def test_a_missing_shard_is_named_by_its_runs(shards: dict[int, Path], tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    assert report([str(shards[1]), str(shards[2]), "--output", str(merged)]) == 0
    assert unfinished(merged, read_results(merged)) == ["Planned and not begun: head seeds 42, 43."]


def test_the_same_command_trains_a_shard_s_missing_runs_only(
    shards: dict[int, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    [gone] = shards[1].glob("head/seed-44/result.json")
    before, others = (
        gone.read_text(),
        {path: path.stat().st_mtime_ns for path in shards[1].glob("prompt/*/result.json")},
    )
    gone.unlink()
    assert main(small(shards[1].parent, *FLAGS, "--shard", "1/3")) == 0
    printed = capsys.readouterr().out
    assert "shard 1/3, 3 of 6 runs" in printed
    assert "2 of 3 runs were done before" in printed
    assert f"{shards[1].parent / 'shard-*-of-3'} --output {shards[1].parent / 'merged'}" in printed
    assert {path: path.stat().st_mtime_ns for path in others} == others
    assert gone.read_text().split('"cost"')[0] == before.split('"cost"')[0]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--strategy", "head,prompt"), "strategy was prompt,head, now head,prompt"),
        (("--train.runs", 4), "train.runs was 3, now 4"),
        (("--output", "{1}", "--shard", "1/1"), "parallel.shard was 1/3, now 1/1"),
    ],
)
def test_a_shard_s_comparison_stays_as_it_was_dealt(flags: tuple[str, ...], told: str, shards: dict[int, Path]) -> None:
    given = [str(flag).format("", shards[1]) for flag in flags]
    request = arguments.parse(small(shards[1].parent, *FLAGS, "--shard", "1/3", *given))
    message = refused(Experiment(request.config, request.entries).prepare)
    assert f"{shards[1]} belongs to another configuration: {told}" in message


def test_a_wrong_shard_is_one_line_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(small(tmp_path / "out", *FLAGS, "--shard=5/5")) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line == "error: --parallel.shard 5/5: the comparison has 4 seed groups; choose N up to 4"
    assert not (tmp_path / "out").exists()
