"""How an experiment is repeated: the command, and which strategies it doesn't know."""

from flax_agnews.errors import listed
from flax_agnews.runs.results import Results


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
    own, found = own_strategies(results), command(results)
    lines = []
    if own:
        lines.append(f"# run the script that defines {listed(own)} again: the command doesn't know such strategies")
    if found:
        lines += ["# in the output folder; finished runs are not repeated, --output OTHER starts afresh", found]
    return lines
