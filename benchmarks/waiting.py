"""`python -m benchmarks.waiting`: the seconds that people wait for commands, and what they go into.

Each command is a whole process in an empty folder: cold with an empty cache folder, then warm with the same cache.
Writes `results/waiting.{json,md}` after each row; other rows of the same commit and settings stay.
"""

import argparse
import compileall
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import flax_agnews
from benchmarks.support.result_files import ResultFiles, add_common, made_line
from benchmarks.support.trial import Record, Trial
from benchmarks.support.watched_commands import Watched, import_seconds, lines, parts, watch
from benchmarks.support.workers import Worker
from flax_agnews.report import read_results

# Nothing here imports JAX: the worker imports its parent's modules before its environment is set.

PACKAGE = Path(flax_agnews.__file__).resolve().parent
SHORT, LONG = ("commands", "quickstart"), ("comparison", "compiling")
TRAIN, QUICKSTART = "flax_agnews.main", ("flax_agnews.main", "--config", "quickstart")
BRIEF = ("--data.limit_train", "80", "--data.limit_test", "16", "--train.runs", "1", "--train.epochs", "1")
"""Flags for few texts and one short run of each strategy."""

SMOKE_BODY = json.dumps({"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 300})

Targets = Sequence[tuple[str, float]]
"""What is limited (`wall`, `processor` or a part such as `compile`), and the most seconds of it."""


@dataclass(frozen=True)
class Answer:
    """A command that answers at once, without training.

    Attributes:
        name: the command in the table.
        module: the module that is run, and its arguments.
        processor: the most seconds of processor time that it should take.
        code: its exit code.
    """

    name: str
    module: Sequence[str]
    processor: float
    code: int = 0


ANSWERS = (
    Answer("`--help`", (TRAIN, "--help"), 1.5),
    Answer("`--print_config`", (TRAIN, "--print_config"), 1.5),
    Answer("a mistake, `--train.epoch 3`", (TRAIN, "--train.epoch", "3"), 1.5, code=2),
    Answer("`--list_strategies`", (TRAIN, "--list_strategies"), 4),
    Answer("`describe`", ("flax_agnews", "describe"), 4),
)


class Bench:
    """Measures groups of commands, and writes a row of the table after each.

    Args:
        options: the command's options.
        folder: an empty folder for all that the commands write.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self._folder, self._folders = options, folder, 0
        self._data, self._tokenizer = (where(path) for path in (options.data, options.tokenizer))
        self._device = {"JAX_PLATFORMS": "cpu"} if options.device == "cpu" else {}
        settings = {"smoke": options.smoke, "data": options.data}
        self.files = ResultFiles(options.results, "waiting", settings, page, None)
        asked = "import jax; print(jax.default_backend(), jax.devices()[0].device_kind, sep='|')"
        said = self._watch(("-c", asked), self._empty(), 0).text.strip().splitlines()[-1]
        self.on = dict(zip(("backend", "device"), said.split("|"), strict=True))

    def commands(self) -> None:
        """Measures commands that need no run."""
        for answer in ANSWERS:
            self.answer(answer)

    def quickstart(self) -> None:
        """Measures the quickstart, its display in a terminal, and a prediction of its first run."""
        brief = (*BRIEF, "--strategy", "full,partial") if self.options.smoke else ()
        run = self.experiment("the quickstart", (*QUICKSTART, *brief), [("wall", 60)], halves=True)
        self.answer(Answer("`predict --text`, the quickstart's run", prediction(run), 6))
        shown = self._watch(("-m", *QUICKSTART, *brief), self._empty(), 0, terminal=True)
        into = {"first output": shown.first, "longest silence": shown.silence}
        targets = [("first output", 1.0), ("longest silence", 3.0)]
        self._add("the quickstart, in a terminal", "cold", [shown], into, targets)

    def comparison(self) -> None:
        """Measures a brief comparison of three strategies at 124M, and a prediction of its first run."""
        body = json.dumps({"model_type": "gpt2", **Trial(model=self.model).body})
        given = ("--model.from_config", body, "--model.tokenizer", self._tokenizer, "--data.source", self._data)
        how = ("--train.batch_size", "16", "--train.schedule", "linear", "--train.shapes", self.options.shapes)
        name = f"full, partial and prompt, {Trial(model=self.model).model_text}, 72 texts"
        run = self.experiment(name, (TRAIN, "--strategy", "all", *given, *BRIEF, *how), [("compile", 60)])
        self.answer(Answer("`predict --text`, that comparison's run", prediction(run), 10), warm=1)

    def compiling(self) -> None:
        """Measures compiling the training step of `full` with dropout, two shapes, in a process of its own."""
        trial = Trial(model=self.model, data=self._data, tokenizer=self._tokenizer)
        environment = {**self._device, "FLAX_AGNEWS_CACHE": str(self._empty())}
        task = "benchmarks.support.compile_cost:build"
        with Worker(task, (trial, str(self._empty() / "output")), True, environment) as worker:
            found = worker.facts
        tokens = " and ".join(f"{number:,}" for number in found["tokens"])
        name = f"compiling the training step of `full`, {trial.model_text}, dropout, for each of {tokens} tokens"
        spent = {kind: found[kind] / len(found["tokens"]) for kind in ("wall", "processor")}
        row = {"command": name, "start": "cold", **spent, "into": {}, "targets": [("wall", 4)]}
        self._keep("compiling", row)

    def given(self, name: str, seconds: float, most: float) -> None:
        """Adds a row whose seconds were measured before."""
        row = {"command": name, "start": "cold", "wall": seconds, "processor": None, "into": {}}
        self._keep(name, {**row, "targets": [("wall", most)]})

    @property
    def model(self) -> str:
        """The large body, or a tiny one in its place."""
        return SMOKE_BODY if self.options.smoke else "124M"

    def experiment(self, name: str, module: Sequence[str], targets: Targets, halves: bool = False) -> Path:
        """Measures an experiment, cold and warm.

        Args:
            name: the command in the table.
            module: the module that is run, and its arguments.
            targets: of the cold start.
            halves: whether the warm start is to take half of the cold one.

        Returns:
            The folder of the first finished run.
        """
        cache = self._empty()
        for start in ("cold", "warm"):
            output = self._empty() / "output"
            done = self._watch(("-m", *module, "--output", str(output)), cache, 0)
            shapes = re.search(r"in (\d+ shapes?)", done.text)
            named = f"{name}, {shapes[1]}" if shapes else name
            self._add(named, start, [done], experiment_parts(done, output), targets, key=name)
            targets = [("wall", done.wall / 2)] if halves else []
        return next(path.parent for path in sorted(output.glob("*/seed-*/result.json")))

    def answer(self, answer: Answer, warm: int | None = None) -> None:
        """Measures a command that answers at once: once cold, then warm, then what its imports take.

        Args:
            answer: the command.
            warm: number of warm starts; `--repeats` by default.
        """
        cache, command = self._empty(), ("-m", *answer.module)
        imports = 0.0
        for start, repeats in (("cold", 1), ("warm", warm or self.options.repeats)):
            done = [self._watch(command, cache, answer.code) for _ in range(repeats)]
            if start == "cold":
                imports = import_seconds(self._watch(("-X", "importtime", *command), cache, answer.code).text)
            into = {"import": imports, "the rest": max(0.0, median(one.wall for one in done) - imports)}
            self._add(answer.name, start, done, into, [("processor", answer.processor)])

    def _add(
        self, name: str, start: str, done: Sequence[Watched], into: Record, targets: Targets, key: str = ""
    ) -> None:
        wall, processor = median(one.wall for one in done), median(one.processor for one in done)
        row = {"command": name, "start": start, "wall": wall, "processor": processor, "into": into, "targets": targets}
        self._keep(f"{key or name}, {start}", row)

    def _keep(self, key: str, row: Record) -> None:
        self.files.add(key, row, self.on)
        print(f"{row['start']}  {row['wall']:7.1f} s  {row['command']}", flush=True)

    def _empty(self) -> Path:
        """Makes an empty folder."""
        self._folders += 1
        made = self._folder / str(self._folders)
        made.mkdir()
        return made

    def _watch(self, arguments: Sequence[str], cache: Path, code: int, terminal: bool = False) -> Watched:
        """Runs Python in an empty folder; exits with all that it said, unless it ends with `code`."""
        path = os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, **self._device, "FLAX_AGNEWS_CACHE": str(cache), "PYTHONPATH": path}
        done = watch([sys.executable, *arguments], self._empty(), environment, terminal)
        if done.code != code:
            raise SystemExit(f"python {' '.join(arguments)} ended with {done.code}:\n{done.text}")
        return done


def prediction(run: Path) -> Sequence[str]:
    """The module that answers a text by a finished run, and its arguments."""
    return "flax_agnews", "predict", str(run), "--text", "The striker scored twice."


def experiment_parts(done: Watched, output: Path) -> dict[str, float]:
    """Seconds of each part of an experiment; in its runs, those of updates are training.

    Args:
        done: the process, which printed through a pipe.
        output: its output folder.
    """
    found = parts(lines(done.chunks), done.wall)
    train = sum(run.cost.train_seconds or 0.0 for run in read_results(output).runs)
    runs = {"train": train, "evaluate and save": max(0.0, found.pop("runs") - train)}
    report = found.pop("report")
    return {**found, **runs, "report": report}


def where(path: str) -> str:
    """A folder's absolute path, since the processes run in other folders; `builtin` stays."""
    return path if path == "builtin" else str(Path(path).resolve())


def page(record: Record) -> str:
    """The page of results in Markdown."""
    out = [
        "# Where waiting time goes",
        "",
        "Whole processes, each in an empty folder: cold with an empty cache folder, warm with what the cold one left",
        "there. Medians, in seconds. An experiment's parts are the times between the lines that it prints, and `train`",
        "those of its updates; the imports of other commands are from a further start, with `-X importtime`.",
        "",
        made_line(record),
        "",
        "| command | start | seconds | of processor time | what they went into | at most |",
        "|---|---|---:|---:|---|---|",
    ]
    for row in record["entries"].values():
        into = ", ".join(f"{name} {seconds:.1f}" for name, seconds in row["into"].items())
        processor = "" if row["processor"] is None else f"{row['processor']:.1f}"
        targets = ", ".join(judged(row, of, most) for of, most in row["targets"])
        out.append(f"| {row['command']} | {row['start']} | {row['wall']:.1f} | {processor} | {into} | {targets} |")
    return "\n".join(out) + "\n"


def judged(row: Record, of: str, most: float) -> str:
    """A target, and whether a row keeps to it."""
    value = row[of] if of in row else row["into"][of]
    name = {"wall": "", "processor": "processor time "}.get(of, f"{of} ")
    return f"{name}{round(most, 1):g}: {'met' if value <= most else 'missed'}"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--long", action="store_true", help="also a comparison and compiling at 124M: some minutes more")
    made.add_argument("--groups", nargs="*", choices=(*SHORT, *LONG), help="only these; with no name none")
    made.add_argument("--shapes", default="auto", help="of the comparison at 124M (`--train.shapes`)")
    made.add_argument("--tests_seconds", type=float, help="what `pytest` took, from cold caches")
    made.add_argument("--ci_seconds", type=float, help="what `.ci/run` took")
    made.add_argument("--smoke", action="store_true", help="small forms of all commands, in a minute")
    add_common(made, repeats=3, data=Trial.data)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures the chosen groups, and writes the results after each row."""
    options = parser().parse_args(arguments)
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # the processes would inherit it
    if options.smoke:
        options.data = options.tokenizer = "builtin"
    groups = (*SHORT, *(LONG if options.long else ())) if options.groups is None else options.groups
    missing = [path for path in (options.data, options.tokenizer) if path != "builtin" and not Path(path).exists()]
    if missing and {*groups} & {*LONG}:
        raise SystemExit(f"{missing[0]}: no such folder; --data and --tokenizer name others")
    compileall.compile_dir(PACKAGE, quiet=2)  # as installing does
    with tempfile.TemporaryDirectory(prefix="waiting-") as folder:
        bench = Bench(options, Path(folder))
        measured = (bench.commands, bench.quickstart, bench.comparison, bench.compiling)
        for measure in (one for one in measured if one.__name__ in groups):
            measure()
        if options.tests_seconds:
            bench.given("`pytest`", options.tests_seconds, 480)
        if options.ci_seconds:
            bench.given("`.ci/run`", options.ci_seconds, 1800)
    print(page(bench.files.record))


if __name__ == "__main__":
    main()
