"""Reads event files as TensorBoard does, and compares a run's with its metrics.jsonl."""

from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from support.small_experiments import metrics, results

EVERYTHING = {"scalars": 0, "images": 0, "tensors": 0}


def events_in(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance=EVERYTHING)
    return found.Reload()


def scalars(events: EventAccumulator, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(name)]


def assert_events_are_metrics(output: Path, strategy: str, seed: int) -> None:
    """Every number of metrics.jsonl at its step, as float32, and the scores of the test split at the end."""
    folder = output / strategy / f"seed-{seed}"
    events, (updates, epochs) = events_in(folder), metrics(folder)
    per_epoch = len(updates) // len(epochs)
    names = {name for name in (*updates[0], *epochs[0]) if "/" in name}
    closing = {"epoch_time", "test/loss", "test/accuracy", "total_train_time"}
    assert set(events.Tags()["scalars"]) == names | closing
    for name in names:
        steps = [(line["step"] if "step" in line else per_epoch * line["epoch"]) for line in (*updates, *epochs)]
        lines = zip(steps, (*updates, *epochs), strict=True)
        assert scalars(events, name) == [(step, np.float32(line[name])) for step, line in lines if name in line]
    assert [step for step, seconds in scalars(events, "epoch_time") if seconds > 0] == [
        per_epoch * line["epoch"] for line in epochs
    ]
    [run] = [run for run in results(output)["runs"] if (run["strategy"], run["seed"]) == (strategy, seed)]
    assert scalars(events, "test/accuracy") == [(len(updates), np.float32(run["test_accuracy"]))]
