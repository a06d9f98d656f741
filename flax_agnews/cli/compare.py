"""Runs a comparison for the command line: the experiment, its report, and the final table in the terminal."""

from collections.abc import Sequence

from rich.text import Text

from flax_agnews.config import Config
from flax_agnews.errors import Diverged
from flax_agnews.experiment.dry_run import dry_run
from flax_agnews.experiment.dry_run_text import shown
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.report import final_table, read_answer, read_results, write_answer
from flax_agnews.report.sentences import sentences
from flax_agnews.runs.shards import Shard
from flax_agnews.strategies.base import Entry, Strategy
from flax_agnews.system.display import Display
from flax_agnews.system.interrupt import Stopped
from flax_agnews.system.text import one_line
from flax_agnews.training.processes import current_team, sharing_failures


def compare(config: Config, strategies: Sequence[Entry | Strategy], overwrite: bool = False) -> None:
    """Runs the experiment, writes its report and prints its table.

    Raises:
        UserError: bad input.
        Lost: another process of the same experiment has ended.
        Diverged: some runs had NaN or infinite numbers; the report of all others is written first.
        KeyboardInterrupt: after a signal, whose number is the argument, and after saving.
    """
    with sharing_failures():
        display, diverged = Display(), None
        try:
            experiment = Experiment(config, strategies, display, overwrite)
            try:
                experiment.run()
            except Diverged as error:
                if not experiment.folder.finished(experiment.names):
                    raise
                diverged = error
        except Stopped as stop:
            if current_team().is_first:
                display.note(f"{stop.where}; run the same command to go on")
            current_team().meet()  # no process exits before the first one has saved
            raise KeyboardInterrupt(stop.signal) from None
        if current_team().is_first:
            _report(experiment)
        current_team().meet()
        if diverged:
            raise diverged


def plan(config: Config, strategies: Sequence[Entry | Strategy], overwrite: bool = False) -> None:
    """Prints what `compare` would run, where, and how long that takes; writes nothing into the output folder.

    Raises:
        UserError: bad input, as from `compare`.
    """
    display = Display()
    found = dry_run(config, strategies, display, overwrite)
    for part in ("", *shown(found)):
        display.console.print(part)


def _report(experiment: Experiment) -> None:
    """Writes the report of a finished experiment and prints its table and files."""
    folder, display = experiment.folder.path, experiment.display
    with display, display.busy("writing the report"):
        answer = read_answer(folder, read_results(folder))
        written = write_answer(answer, folder)
        experiment.publish(folder / "accuracy_curves.png", answer)
    display.console.print("", final_table(answer), "")
    display.console.print(Text(one_line(" ".join(sentences(answer)))), "")
    display.note(" · ".join([str(written[0]), "results.json", *(path.name for path in written[1:])]))
    shard = Shard.of(experiment.config.parallel.shard)
    if not shard.whole:
        parts, merged = folder.parent / f"shard-*-of-{shard.count}", folder.parent / "merged"
        display.note(f"shard {shard}; after all: python -m flax_agnews.report {parts} --output {merged}")
