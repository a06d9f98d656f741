"""The benchmark of kills finds the phase of a kill in what the process left and printed; kills add up over sittings."""

import itertools
import os
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import faults
from benchmarks.faults import PHASES, Kills, phase

START = "flax_agnews\ntokenizing ...\n"
PLAN = START + "plan   3 strategies\n"
ADAPTED = PLAN + "pretrain  done in 0:00:01  loss 5.00\n"


@pytest.mark.parametrize(
    ("said", "changed", "expected"),
    [
        (START, ["full"], 0),
        (PLAN, ["full"], 1),
        (ADAPTED, [], 0),
        (PLAN + "pretrain: took the body adapted before (abc)\ncompiling full ...\n", [], 0),
        (ADAPTED + "compiling full ...\n", ["full"], 2),
        (ADAPTED + "compiling full ...\ncompiling full: 5 s\nfull seed 42  done\ncompiling partial ...\n", ["full"], 0),
        (ADAPTED + "compiling full ...\nfull seed 42  done\ncompiling partial ...\n", ["full", "partial"], 2),
    ],
)
def test_where_a_process_was_killed(tmp_path: Path, said: str, changed: list[str], expected: int) -> None:
    """Files of a process before this one say nothing: neither its metrics nor its drafts."""
    started = time.time() - 10
    for name in ("full", "partial", "prompt"):
        path = tmp_path / name / "seed-42" / "metrics.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("")
        if name not in changed:
            os.utime(path, (started - 5, started - 5))
    (tmp_path / "full" / "seed-42" / "checkpoints" / ".step-00000001.77.0.draft").mkdir(parents=True)
    assert phase(tmp_path, 78, started, said) == PHASES[expected]
    assert phase(tmp_path, 77, started, said) == PHASES[3]


def test_kills_add_up_over_sittings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Experiments that are killed as often as they may be, five times at most: 12 kills take three or more of them."""
    numbers, kept = list[int](), list[dict[str, Any]]()

    def experiment(self: Kills, number: int) -> dict[str, Any]:
        numbers.append(number)
        kills = len(list(itertools.takewhile(lambda _: self._may_kill(), range(5))))
        return {"kills": {PHASES[2]: kills}, "went_on": kills, "damaged": 0, "experiments": 1, "equal": 1}

    monkeypatch.setattr(Kills, "_experiment", experiment)
    for name in ("start", "finish", "end"):
        monkeypatch.setattr(faults, name, lambda *_: None)
    for most in (7, 12, 12):
        sitting = Kills(most, kept[-1] if kept else None, tmp_path, lambda found: kept.append(dict(found)))
        sitting.run(at_once=2)
        assert sum(sitting.found["kills"].values()) == most
    assert len(numbers) == len(set(numbers)) == kept[-1]["experiments"] == kept[-1]["equal"]
    assert kept[-1]["went_on"] == 12
