"""`python -m benchmarks.family`: every strategy on the same real texts, each at rates found with the same budget.

Fine-tunes a small GPT-2 that was trained as a language model on AG News texts, on the first rows of AG News' training
texts (a tenth of them for validation), by every registered strategy, and tests on all 7,600 official test texts. Before
that, each strategy tries the same factors of its default rates on the validation texts, with the same budget.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.support.bar_charts import BLUE, GREY, Bar, draw_bars, figure, png
from benchmarks.support.circumstances import RESULTS, circumstances
from flax_agnews.config import Config, DataConfig, ModelConfig, SearchConfig, TrainConfig
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.report import write_report
from flax_agnews.runs.results import Results
from flax_agnews.strategies import chosen
from flax_agnews.training.rates import short

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
    )


def page(results: Results, made: Mapping[str, Any]) -> str:
    """The page of results in Markdown, the best strategy first."""
    data, settings = results.data, results.settings
    lines = [
        "# The family of strategies on real texts",
        "",
        __doc__.split("\n\n", 1)[1].strip(),
        "",
        f"{data.train:,} texts train, {data.validation:,} validate; {settings['epochs']} epochs, batches of "
        f"{settings['batch_size']}, linear decay. {made['date']}, commit {made['commit']}, {made['processor']}, "
        f"JAX {made['jax']}, Python {made['python']}.",
        "",
        "| strategy | numbers that train | test accuracy | against the head alone | rates | of the default | "
        "at the default, shorter trials |",
        "|---|---:|---|---:|---|---:|---|",
        *_rows(results),
        "",
        "The standard error of one accuracy on 7,600 texts is about 0.35 points, and seeds differ besides: strategies",
        "whose figures differ by less than a point are not told apart by this table.",
        "",
        "The last column is validation accuracy in the first round of trials: at the default rates, and at the best.",
        "Defaults are what was published for bodies of 100 million parameters and more, which train longer: a small",
        "one, in a few hundred updates, wants several times as much. `gradual` begins one stage an epoch, so that two",
        "epochs leave the lower layers as they were.",
        "",
    ]
    return "\n".join(lines)


def _rows(results: Results) -> Iterator[str]:
    """Rows of the table, one per strategy."""
    alone = _accuracy(results, ALONE)
    for name in sorted(results.summary, key=lambda name: -_accuracy(results, name)):
        runs = results.by_strategy[name]
        assert results.search is not None
        search = results.search[name]
        first = [trial for trial in search.trials if trial.updates == search.trials[0].updates]
        default = next(trial.val_accuracy for trial in first if trial.factor == 1)
        best = max(trial.val_accuracy or 0 for trial in first)
        rates = sorted({short(float(f"{rate:.3g}")) for rate in search.rates}, key=float)
        cells = (
            name,
            f"{runs[0].trainable_parameters:,}",
            ", ".join(f"{run.test_accuracy:.4f}" for run in runs),
            "" if name == ALONE else f"{100 * (_accuracy(results, name) - alone):+.1f} points",
            ", ".join(rates) if len(rates) < 3 else f"{rates[0]} to {rates[-1]}",
            f"x {search.factor:.3g}" + (f" ({search.edge} tried)" if search.edge else ""),
            f"{default:.3f}, {best:.3f}",
        )
        yield f"| {' | '.join(cells)} |"


def _accuracy(results: Results, name: str) -> float:
    return float(results.summary[name].test_accuracy.mean or 0)


def picture(results: Results) -> bytes:
    """The picture of results as PNG: test error of each strategy, the smallest first."""
    names = sorted(results.summary, key=lambda name: -_accuracy(results, name))
    title = f"Test errors on AG News, {results.data.train:,} training texts, by what trains"
    made = figure(8, 0.8 + 0.34 * len(names), title)
    draw_bars(made.subplots(), [_bar(results, name) for name in names], "% of 7,600 test texts")
    return png(made)


def _bar(results: Results, name: str) -> Bar:
    runs = results.by_strategy[name]
    errors = [100 * (1 - run.test_accuracy) for run in runs]
    text = f"{sum(errors) / len(errors):.1f} %, {runs[0].trainable_parameters:,} numbers train"
    return Bar(name, sum(errors) / len(errors), min(errors), max(errors), text, GREY if name == ALONE else BLUE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs (or resumes) the comparison, and writes `results/family.{json,md,png}`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="../shared/mini_gpt2")
    parser.add_argument("--data", default="../shared/ag_news")
    parser.add_argument("--strategy", default="every")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--budget", type=float, default=1.0, help="of a strategy's trials, in runs of it")
    parser.add_argument("--output", default="runs/family")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of what is written")
    options = parser.parse_args(arguments)
    results = Experiment(configuration(options), chosen(options.strategy)).run()
    write_report(Path(options.output))
    made = circumstances()
    options.results.mkdir(exist_ok=True)
    file = options.results / "family"
    file.with_suffix(".json").write_text(json.dumps({"made": made, **results.json}, indent=1) + "\n", "utf-8")
    file.with_suffix(".md").write_text(page(results, made), "utf-8")
    file.with_suffix(".png").write_bytes(picture(results))


if __name__ == "__main__":
    main()
