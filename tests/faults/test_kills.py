"""SIGKILL at random moments and in every phase of a save: the results have the bytes of an undisturbed experiment."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from faults.experiments import (
    SECONDS,
    STRATEGIES,
    arguments,
    assert_same_end,
    assert_states_are_of,
    generator,
    killed,
    lines,
    sound_steps,
)
from support.small_experiments import start

pytestmark = pytest.mark.faults

KILLS = 20


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program's cache folder: each kill's next process finds in it what the one before left."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment that nobody disturbed, with a cache folder of its own."""
    output, cache = tmp_path_factory.mktemp("uninterrupted") / "out", tmp_path_factory.mktemp("own-cache")
    assert _run(output, cache) == 0
    return output


@pytest.fixture(scope="module")
def states(uninterrupted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All states that the uninterrupted experiment went through: it keeps them, and is killed before it drops them."""
    output, cache = tmp_path_factory.mktemp("states") / "out", tmp_path_factory.mktemp("own-cache")
    for number, name in enumerate(STRATEGIES):
        # of a run that is finished, each start calls it once more
        where = f"flax_agnews.training.checkpoint:Store.finish:before:{number + 1}"
        assert killed(where, output, cache, "--checkpoint.keep_last", 1000) == -signal.SIGKILL
        shutil.copytree(output / name / "seed-42", output.parent / "kept" / name / "seed-42")
        assert len(sound_steps(output)) == number + 1
    return output.parent / "kept"


def _run(output: Path, cache: Path) -> int:
    process = start(arguments(output), os.environ | {"FLAX_AGNEWS_CACHE": str(cache)})
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, out + err
    return process.returncode


def _kill(process: "subprocess.Popen[str]", after: float) -> bool:
    """Whether it was still there to be killed; one that wasn't has ended well."""
    try:
        out, err = process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return True
    assert process.returncode == 0, out + err
    return False


def test_kills_at_random_moments(uninterrupted: Path, states: Path, cache: Path, tmp_path: Path) -> None:
    """Half of them anywhere in a process's life, half once it computes, where the states are."""
    rng, kills, compared, round_ = generator(9), 0, 0, 0
    while kills < KILLS:
        output, before = tmp_path / f"out-{round_}", dict[str, list[int]]()
        process = start(arguments(output), os.environ | {"FLAX_AGNEWS_CACHE": str(cache)})
        while process.poll() is None or process.returncode:
            if kills % 2:
                had, end = lines(output), time.monotonic() + SECONDS
                while process.poll() is None and lines(output) == had:
                    assert time.monotonic() < end
                    time.sleep(0.005)
            if _kill(process, rng.uniform(0, 1.5 if kills % 2 else 9)):
                kills += 1
                now = sound_steps(output)
                for run, steps in before.items():  # a verified state is lost to a newer one, or to the result
                    finished = (output / run / "result.json").exists()
                    assert finished or not steps or max(now[run]) >= max(steps), (run, steps, now[run])
                compared += assert_states_are_of(output, states)
                before = now
            else:
                break
            process = start(arguments(output), os.environ | {"FLAX_AGNEWS_CACHE": str(cache)})
            if kills >= KILLS:
                out, err = process.communicate(timeout=SECONDS)
                assert process.returncode == 0, out + err
        assert_same_end(output, uninterrupted)
        round_ += 1
        shutil.rmtree(cache, ignore_errors=True)  # the next experiment computes all of it again
    assert compared > KILLS / 2


PHASES = {
    "before a save": "flax_agnews.training.checkpoint:Store._write:before:3",
    "its folder is empty": "flax_agnews.training.checkpoint:_save:before:3",
    "arrays are written, nothing is synced": "flax_agnews.training.checkpoint:_save:after:3",
    "some files are synced": "flax_agnews.runs.sealed:sync:before:12",
    "sealed, not in its place": "flax_agnews.runs.sealed:move:before:5",
    "in its place, the older one there": "flax_agnews.runs.sealed:move:after:5",
    "the older one has no name": "flax_agnews.runs.sealed:shutil.rmtree:before:9",
    "the best weights are written, the result is not": "flax_agnews.training.lane:Lane.finish:after:1",
    "the result is written, states are not dropped": "flax_agnews.training.checkpoint:Store.finish:before:1",
    "the body is being kept": "flax_agnews.training.adaptation:keep:before:2",
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_kill_in_each_phase_of_a_save(uninterrupted: Path, states: Path, tmp_path: Path, phase: str) -> None:
    output, cache = tmp_path / "out", tmp_path / "cache"
    assert killed(PHASES[phase], output, cache) == -signal.SIGKILL
    assert_states_are_of(output, states)
    _run(output, cache)
    assert_same_end(output, uninterrupted)
