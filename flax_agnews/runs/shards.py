"""Shards of a comparison: every N-th of its runs, trained by itself, in a folder of its own, and merged later.

Runs are dealt round robin, in the order in which one process would train them. All shards plan batches for all runs of
the comparison, so that a run gives the same bytes in a shard as in the whole.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flax_agnews.config import Config
from flax_agnews.errors import UserError, flag, shown
from flax_agnews.system.text import counted

_SETTING = flag("parallel.shard")


@dataclass(frozen=True)
class Shard:
    """A share of a comparison's runs.

    Attributes:
        number: which share, from 1.
        count: number of shares; 1 is the whole comparison.
    """

    number: int
    count: int

    @classmethod
    def of(cls, text: str) -> "Shard":
        """The shard of a setting `I/N`. ValueError for anything else."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(text)
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def folder(self) -> str:
        """Name of the shard's folder, inside the comparison's."""
        return f"shard-{self.number}-of-{self.count}"

    @property
    def whole(self) -> bool:
        """Whether it is the whole comparison."""
        return self.count == 1

    def own(self, names: Sequence[str], seeds: Sequence[int], together: int = 1) -> dict[str, list[list[int]]]:
        """Strategy -> seeds of the shard's runs, in groups that train together; empty for a strategy without any.

        Args:
            names: the comparison's strategies, in their order.
            seeds: seeds of each strategy's runs.
            together: `train.parallel_seeds`; groups are dealt whole.
        """
        groups = [list(seeds[start : start + together]) for start in range(0, len(seeds), together)]
        every = [(name, group) for name in names for group in groups]
        mine = every[self.number - 1 :: self.count]
        return {name: [group for other, group in mine if other == name] for name in names}


def sharded(config: Config, names: Sequence[str], environment: Mapping[str, str] = os.environ) -> Config:
    """The settings with `parallel.shard` as I/N, and as output folder that of the shard.

    Args:
        config: all settings.
        names: the comparison's strategies.
        environment: variables, from which `auto` takes the number of the task.

    Raises:
        UserError: `auto` without what it needs, or more shards than there is to deal.
    """
    shard = _chosen(config.parallel.shard, environment)
    if shard.whole:
        return replace(config, parallel=replace(config.parallel, shard=str(shard)))
    together = config.train.parallel_seeds
    if shard.count > (most := len(names) * -(-config.train.runs // together)):
        there = counted(most, "run" if together == 1 else "seed group")
        raise UserError(f"{_SETTING} {shard}: the comparison has {there}; choose N up to {most}")
    output = Path(config.output)
    if output.name != shard.folder:  # as it is in a shard's own config.yaml
        output = output / shard.folder
    return replace(config, output=str(output), parallel=replace(config.parallel, shard=str(shard)))


def _chosen(text: str, environment: Mapping[str, str]) -> Shard:
    """The shard of a setting I/N, auto/N or auto."""
    if not text.startswith("auto"):
        return Shard.of(text)
    name = next((name for name in ("SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX") if name in environment), None)
    if name is None:
        raise UserError(
            f"{_SETTING} {text}: needs SLURM_ARRAY_TASK_ID (of a SLURM job array) or JOB_COMPLETION_INDEX (of a "
            "Kubernetes indexed Job) in the environment; or give I/N"
        )
    task = _number(text, name, environment)
    if "/" in text:
        count = int(text.removeprefix("auto/"))
    elif name == "SLURM_ARRAY_TASK_ID":
        count = _number(text, "SLURM_ARRAY_TASK_COUNT", environment)
    else:
        raise UserError(f"{_SETTING} auto: Kubernetes doesn't say how many tasks there are; give auto/N")
    last = "SLURM_ARRAY_TASK_MAX" if "SLURM_ARRAY_TASK_MAX" in environment and name != "JOB_COMPLETION_INDEX" else name
    if (largest := _number(text, last, environment)) >= count:  # every task of an array from 1 on is refused
        tasks = f"number the {counted(count, 'task')} from 0 to {count - 1}"
        raise UserError(f"{_SETTING} {text}: {last} is {largest}; {tasks}, or give I/N")
    return Shard(task + 1, count)


def _number(text: str, name: str, environment: Mapping[str, str]) -> int:
    """The number in an environment variable."""
    value = environment.get(name)
    if value is None:
        raise UserError(f"{_SETTING} {text}: {name} isn't in the environment; give auto/N or I/N")
    if not (value.isascii() and value.isdecimal()):
        raise UserError(f"{_SETTING} {text}: {name} is {shown(value)}, which is no number from 0 on; give I/N")
    return int(value)
