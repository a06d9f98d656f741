"""A dry run: what it plans is what a run then reports, and it leaves nothing behind."""

from pathlib import Path

import pytest
from support.small_experiments import ONE_LAYER, metrics, results, small

from flax_agnews.cli import arguments
from flax_agnews.experiment.dry_run import DryRun, dry_run
from flax_agnews.main import main
from flax_agnews.runs.output_folder import config_dict

FLAGS = ("--strategy", "full,head", "--train.runs", 2, "--train.epochs", 2, *ONE_LAYER)


def planned(output: Path, *flags: object) -> DryRun:
    request = arguments.parse(small(output, *FLAGS, *flags))
    return dry_run(request.config, request.entries)


def test_runs_steps_and_tokens_are_those_of_the_runs(tmp_path: Path) -> None:
    """And after the first strategy was trained, only the second one's runs are left."""
    output = tmp_path / "here" / "out"
    plan = planned(output)
    assert not list(tmp_path.iterdir())
    assert {row.strategy: (row.done, row.runs) for row in plan.rows} == {"full": (0, 2), "head": (0, 2)}
    assert plan.seconds > plan.starting > 0
    assert all(seconds > 0 for row in plan.rows for seconds in (*row.cost.groups, row.cost.compiling))
    assert main(small(output, *FLAGS, "--strategy", "full")) == 0
    runs = results(output)["runs"]
    full = plan.rows[0]
    assert full.tokens == sum(run["cost"]["tokens"] for run in runs)
    assert full.steps == sum(len(metrics(output / "full" / f"seed-{run['seed']}")[0]) for run in runs)
    assert full.padding == results(output)["data"]["padding_share"]
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    after = planned(output)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before
    assert {row.strategy: (row.done, row.runs) for row in after.rows} == {"full": (2, 0), "head": (0, 2)}


def test_runs_are_dealt_to_eight_devices_of_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is measured, and the runs of an H200 take 0.83 of those of an H100."""
    plans = [planned(tmp_path / "out", "--plan.devices", 8, "--plan.device", name) for name in ("h100", "h200")]
    assert {slot.device for slot in plans[0].slots} == {0, 1, 2, 3}
    assert plans[0].apart
    slow, fast = ([s for row in plan.rows for s in row.cost.groups] for plan in plans)
    assert [h200 / h100 for h100, h200 in zip(slow, fast, strict=True)] == pytest.approx([0.83] * 4)
    assert plans[0].limit == int(0.75 * 80e9)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_80_columns_and_exits_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--dry_run", "--plan.devices", 2, "--plan.device", "a100")
    assert main(small(tmp_path / "out", *FLAGS, *flags)) == 0
    table = capsys.readouterr().out.split("\n\n", 1)[1]
    assert max(map(len, table.split("assumed:")[0].splitlines())) <= 80
    lines = table.splitlines()
    assert "  device 0: full 42 · head 42" in lines  # of equal length: dealt alternately
    assert any(line.startswith("2 x A100: one run on each") for line in lines)
    assert any(line.startswith("time: about ") for line in lines)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--plan.devices", 0), "--plan.devices 0: must be 1 or more"),
        (("--checkpoint.gigabytes", "1e-5"), "--checkpoint.gigabytes 1e-05: weights and states take up to "),
        (("--parallel.coordinator", "auto"), "a dry run is for one process; leave out --parallel.coordinator"),
    ],
)
def test_bad_input_is_refused_as_by_a_run(
    flags: tuple[object, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(small(tmp_path / "out", *FLAGS, "--dry_run", *flags)) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_plan_is_no_setting_of_a_folder(tmp_path: Path) -> None:
    """Nor is it written to config.yaml, by which a folder's runs are compared."""
    request = arguments.parse(small(tmp_path / "out", "--plan.devices", 8))
    assert request.config.plan.devices == 8
    assert "plan" not in config_dict(request.config)
