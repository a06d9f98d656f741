"""Which runs of a comparison a shard has, and what tells a process which shard it is."""

from dataclasses import replace
from itertools import chain, product
from pathlib import Path

import pytest
from support.refusals import refused

from flax_agnews.config import Config, ParallelConfig, TrainConfig
from flax_agnews.runs.shards import Shard, sharded
from flax_agnews.settings.keywords import check_config

NAMES, SEEDS = ["full", "head", "lora"], [42, 43, 44, 45, 46]


def config(shard: str, output: str = "runs/x", **train: int) -> Config:
    made = Config(output=output, train=TrainConfig(**train), parallel=ParallelConfig(shard=shard))
    check_config(made)
    return made


def chosen(shard: str, **environment: object) -> str:
    """The shard of a comparison of 15 runs, in a process with these variables."""
    variables = {name: str(value) for name, value in environment.items()}
    return sharded(config(shard, runs=5), NAMES, variables).parallel.shard


def array(task: int, first: int, last: int, count: int | None = None) -> dict[str, int]:
    """What SLURM sets in a task of the array `first-last`."""
    count = last - first + 1 if count is None else count
    names = ("ID", "MIN", "MAX", "COUNT")
    return {f"SLURM_ARRAY_TASK_{n}": v for n, v in zip(names, (task, first, last, count), strict=True)}


@pytest.mark.parametrize("count", [1, 2, 4, 15])
def test_runs_are_dealt_like_cards(count: int) -> None:
    hands: list[list[tuple[str, int]]] = [[] for _ in range(count)]
    for place, run in enumerate(product(NAMES, SEEDS)):
        hands[place % count].append(run)
    for number, hand in enumerate(hands, 1):
        own = Shard(number, count).own(NAMES, SEEDS)
        assert list(own) == NAMES
        assert [(name, seed) for name in own for [seed] in own[name]] == hand


@pytest.mark.parametrize(("count", "together"), [(1, 2), (2, 2), (3, 3), (4, 2)])
def test_seeds_that_train_together_stay_together(count: int, together: int) -> None:
    hands = [Shard(number, count).own(NAMES, SEEDS, together) for number in range(1, count + 1)]
    for name in NAMES:
        groups = sorted(chain.from_iterable(hand[name] for hand in hands))
        assert list(chain.from_iterable(groups)) == SEEDS
        assert [len(group) for group in groups[:-1]] == [together] * (len(groups) - 1)


def test_each_shard_has_a_folder_of_its_own_and_its_config_names_the_same_one() -> None:
    found = sharded(config("2/4", runs=5), NAMES)
    assert found.output == str(Path("runs/x/shard-2-of-4"))
    assert sharded(found, NAMES) == found
    elsewhere = replace(found, parallel=replace(found.parallel, shard="3/4"))
    assert Path(sharded(elsewhere, NAMES).output).name == "shard-3-of-4"


def test_by_default_nothing_depends_on_the_environment() -> None:
    default = Config()
    assert sharded(default, NAMES, {name: str(value) for name, value in array(2, 0, 3).items()}) == default


def test_tasks_are_numbered_from_zero() -> None:
    assert [chosen("auto", **array(task, 0, 3)) for task in range(4)] == ["1/4", "2/4", "3/4", "4/4"]
    assert [chosen("auto/4", JOB_COMPLETION_INDEX=task) for task in range(4)] == ["1/4", "2/4", "3/4", "4/4"]
    assert chosen("auto/4", **array(2, 2, 2)) == "3/4"  # one task of four, submitted again
    assert chosen("2/3", **array(2, 0, 3)) == "2/3"


def test_a_task_without_a_sure_number_is_refused() -> None:
    for told, shard, environment in [
        ("needs SLURM_ARRAY_TASK_ID", "auto/4", {}),
        ("needs SLURM_ARRAY_TASK_ID", "auto", {"SLURM_JOB_ID": 7}),
        ("give auto/N", "auto", {"JOB_COMPLETION_INDEX": 1}),
        ("SLURM_ARRAY_TASK_COUNT isn't in the environment", "auto", {"SLURM_ARRAY_TASK_ID": 1}),
        ("SLURM_ARRAY_TASK_MAX is 4; number the 4 tasks from 0 to 3", "auto", array(1, 1, 4)),
        ("SLURM_ARRAY_TASK_MAX is 9; number the 2 tasks from 0 to 1", "auto", array(0, 0, 9, count=2)),
        ("SLURM_ARRAY_TASK_MAX is 4; number the 4 tasks from 0 to 3", "auto/4", array(1, 1, 4)),
        ("JOB_COMPLETION_INDEX is 4; number the 4 tasks", "auto/4", {"JOB_COMPLETION_INDEX": 4}),
        ("JOB_COMPLETION_INDEX is x, which is no number", "auto/4", {"JOB_COMPLETION_INDEX": "x"}),
    ]:
        message = refused(chosen, shard, **environment)
        assert message.startswith(f"--parallel.shard {shard}: ")
        assert told in message


def test_there_are_as_many_shards_as_runs_at_most() -> None:
    assert "the comparison has 15 runs; choose N up to 15" in refused(sharded, config("2/16", runs=5), NAMES)
    grouped = config("2/10", runs=5, parallel_seeds=2)
    assert "the comparison has 9 seed groups; choose N up to 9" in refused(sharded, grouped, NAMES)


@pytest.mark.parametrize("shard", ["0/4", "5/4", "4", "", "1/0", "-1/4", "1/4/2", "auto/0", "auto/", "/4", "1 /4", "x"])
def test_what_is_no_shard(shard: str) -> None:
    assert refused(config, shard).startswith(f"--parallel.shard {shard}: must be I/N with I from 1 to N")
