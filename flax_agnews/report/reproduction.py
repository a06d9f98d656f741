"""The report's last sections: costs, settings, environment, and how to repeat the experiment."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from flax_agnews.errors import listed
from flax_agnews.report.answer import Answer
from flax_agnews.runs.results import Results, mean_cost
from flax_agnews.system.text import NOT_KNOWN, bytes_text, escape, pipe_table, seconds_text, short_count


def costs(answer: Answer) -> Iterator[str]:
    """The section on time, speed and memory."""
    results = answer.results
    found = {entry.name: mean_cost(list(entry.runs)) for entry in answer.strategies}
    rows = [
        (
            name,
            seconds_text(cost.train_seconds),
            seconds_text(cost.compile_seconds),
            seconds_text(cost.cache_seconds),
            seconds_text(cost.pretrain_seconds),
            short_count(cost.tokens_per_second),
            bytes_text(cost.peak_memory_bytes),
        )
        for name, cost in found.items()
    ]
    yield "## What it cost"
    yield pipe_table(("strategy", "training", "compiling", "caching", "pre-training", "tokens/s", "peak memory"), rows)
    shared = " Pre-training was done once and is shared by all runs." if results.pretrain else ""
    yield f"Means of a run. {NOT_KNOWN}: not measured in every run.{shared}"


def settings(results: Results) -> Iterator[str]:
    """The section on training settings."""
    rows = [(name, plain(value)) for name, value in _flat(results.settings)]
    if rows:
        yield "## Settings"
        yield pipe_table(("setting", "value"), rows, left=2)


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flattens nested settings: (name with dots, value)."""
    for name, value in section.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def environment(results: Results) -> Iterator[str]:
    """The section on versions and machine."""
    version = {"flax_agnews": results.flax_agnews}
    rows = [(name, plain(value)) for name, value in _flat({**version, **results.environment})]
    yield "## Environment"
    yield pipe_table(("what", "value"), rows, left=2)


def again(results: Results) -> Iterator[str]:
    """The section on how to repeat the experiment."""
    own, line = own_strategies(results), command(results)
    files = "`results.csv` has a row for every run, `results.json` everything."
    yield "## How to repeat it"
    if results.merged:
        yield f"`merged.yaml` names the output folders whose runs these are; each has its `config.yaml`. {files}"
        return
    if own:
        verb, which = ("is a strategy", "it") if len(own) == 1 else ("are strategies", "them")
        yield (
            f"{listed(map(escape, own))} {verb} of a script that uses the library: run that script again, since the "
            f"command doesn't know {which}. Finished runs are not repeated in the same output folder."
        )
    if line is None:
        yield f"`config.yaml` in this folder has the settings. {files}"
        return
    yield f"```\n{line}\n```"
    yield (
        "`config.yaml` lies in this folder; the paths in it are those of the machine that wrote it. "
        f"Finished runs are not repeated; `--output OTHER` starts afresh elsewhere. {files}"
    )


def own_strategies(results: Results) -> list[str]:
    """The strategies that a script defined, which the command doesn't know."""
    return [name for name, runs in results.by_strategy.items() if any(run.custom for run in runs)]


def command(results: Results) -> str | None:
    """The command that repeats the experiment with its `config.yaml`; None where a script defined all strategies."""
    own = own_strategies(results)
    registered = [name for name in results.by_strategy if name not in own]
    if not registered:
        return None
    chosen = f" --strategy {','.join(registered)}" if own else ""
    return f"python -m flax_agnews.main --config config.yaml{chosen}"


def commands(results: Results) -> list[str]:
    """Lines for a shell that repeat the experiment, with comments where a command is not enough."""
    if results.merged:
        return ["# merged.yaml names the output folders whose runs these are; each has its config.yaml"]
    own, line = own_strategies(results), command(results)
    lines = []
    if own:
        lines.append(f"# run the script that defines {listed(own)} again: the command doesn't know such strategies")
    if line:
        lines += ["# in the output folder; finished runs are not repeated, --output OTHER starts afresh", line]
    return lines


def plain(value: Any) -> str:
    """A setting's value as text."""
    if value is None:
        return NOT_KNOWN
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
