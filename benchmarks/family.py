"""`python -m benchmarks.family`: every strategy on the same real texts, each at rates found with the same budget.

Fine-tunes a small GPT-2 that was trained as a language model on AG News texts, on the first rows of AG News' training
texts (a tenth of them for validation), by every registered strategy, five seeds each, and tests on all 7,600 official
test texts. Before that, each strategy tries the same factors of its default rates, 0.01 to 100, on the validation
texts, with the same budget. The command resumes: finished trials and runs are not computed again.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.support.bar_charts import BLUE, GREY, Bar, draw_bars, figure, png
from benchmarks.support.circumstances import RESULTS, circumstances
from benchmarks.support.rate_table import rate_rows
from benchmarks.support.resumable import run_or_exit
from flax_agnews.config import Config, DataConfig, ModelConfig, ReportConfig, SearchConfig, TrainConfig
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.report import read_answer, write_report
from flax_agnews.report.answer import Answer, Entry
from flax_agnews.report.sentences import notes, sentences
from flax_agnews.report.tables import markdown_table
from flax_agnews.strategies import chosen
from flax_agnews.system.text import pipe_table

ALONE = "head"
"""The baseline strategy: a trained head on a frozen body."""


def configuration(options: argparse.Namespace) -> Config:
    """Settings of the comparison; settings that aren't named have their defaults."""
    return Config(
        strategy=options.strategy,
        output=options.output,
        model=ModelConfig(name=options.model),
        data=DataConfig(source=options.data, max_length=236, limit_train=options.rows),
        train=TrainConfig(
            epochs=options.epochs,
            batch_size=32,
            seed=0,
            runs=options.runs,
            schedule="linear",
            warmup_fraction=0.05,
            clip_norm=1.0,
        ),
        search=SearchConfig(trials=options.trials, budget=options.budget),
        report=ReportConfig(texts="none"),  # the page is published, and the texts aren't ours
    )


def page(answer: Answer, made: Mapping[str, Any]) -> str:
    """The page of results in Markdown, by rank."""
    data, settings = answer.results.data, answer.results.settings
    paragraphs = [
        "# The family of strategies on real texts",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        f"{data.train:,} texts train, {data.validation:,} validate; {settings['epochs']} epochs, batches of "
        f"{settings['batch_size']}, linear decay. {made['date']}, commit {made['commit']}, {made['processor']}, "
        f"JAX {made['jax']}, Python {made['python']}. {made['remark']}The whole report: [family.html](family.html).",
        " ".join(sentences(answer)),
        markdown_table(answer),
        "\n".join(f"- {note}" for note in notes(answer)),
        "How the rates were chosen; the last column is validation accuracy in the first round of trials, at the "
        "default rates and at the best:",
        pipe_table(
            ("strategy", "rates", "of the default", "accuracy at the default, at best"), rate_rows(answer), left=2
        ),
        "Defaults are what was published for bodies of 100 million parameters and more, which train longer: a small "
        "one, in a few hundred updates, wants several times as much. `gradual` begins one stage an epoch, so that two "
        "epochs leave the lower layers as they were.",
    ]
    return "\n\n".join(paragraphs) + "\n"


def picture(answer: Answer) -> bytes:
    """The picture of results as PNG: test error of each entry with its interval, by rank."""
    entries = [entry for entry in answer.entries if entry.rank]
    title = f"Test errors on AG News, {answer.results.data.train:,} training texts, by what trains"
    made = figure(8, 0.8 + 0.34 * len(entries), title)
    draw_bars(made.subplots(), [_bar(entry) for entry in entries], "% of 7,600 test texts, with 95 % intervals")
    return png(made)


def _bar(entry: Entry) -> Bar:
    found, error = entry.accuracy, 100 * (1 - entry.mean)
    # An error is least where the accuracy is at the upper end of its interval.
    least, most = (
        (100 * (1 - found.high), 100 * (1 - found.low)) if found and found.high and found.low else (error,) * 2
    )
    trained = entry.reference.parameters if entry.reference else entry.runs[0].trainable_parameters
    color = GREY if entry.reference or entry.name == ALONE else BLUE
    return Bar(entry.name, error, least, most, f"{error:.1f} %, {trained:,} numbers train", color)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs (or resumes) the comparison, and writes `results/family.{json,md,png,html}`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="../shared/mini_gpt2")
    parser.add_argument("--data", default="../shared/ag_news")
    parser.add_argument("--strategy", default="every")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--trials", type=int, default=9)
    parser.add_argument("--budget", type=float, default=1.0, help="of a strategy's trials, in runs of it")
    parser.add_argument("--output", default="runs/family")
    parser.add_argument("--remark", default="", help="a sentence on the circumstances, for the page")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of what is written")
    options = parser.parse_args(arguments)
    results = run_or_exit(Experiment(configuration(options), chosen(options.strategy)))
    write_report(Path(options.output))
    answer = read_answer(Path(options.output), results)
    made = {**circumstances(), "remark": options.remark and f"{options.remark} "}
    options.results.mkdir(exist_ok=True)
    file = options.results / "family"
    file.with_suffix(".json").write_text(json.dumps({"made": made, **results.json}, indent=1) + "\n", "utf-8")
    file.with_suffix(".md").write_text(page(answer, made), "utf-8")
    file.with_suffix(".png").write_bytes(picture(answer))
    file.with_suffix(".html").write_bytes((Path(options.output) / "report.html").read_bytes())


if __name__ == "__main__":
    main()
