"""`python -m benchmarks.accuracy`: accuracy of the strategies from a body that has learned English news (contract 12).

Fine-tunes a small GPT-2 that was trained as a language model on AG News texts, on 18,000 real AG News texts (and 2,000
for validation), by full fine-tuning, prompt tuning, partial fine-tuning and, for comparison, a trained head alone; two
epochs, batch 32, all 7,600 official test texts. Rates are those that plain PyTorch was measured with; they decay here.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS, circumstances
from flax_agnews.config import Config, DataConfig, ModelConfig, TrainConfig
from flax_agnews.experiment import Experiment
from flax_agnews.report import write_report
from flax_agnews.strategies import chosen
from flax_agnews.strategies.full import FullSettings
from flax_agnews.strategies.partial import PartialSettings
from flax_agnews.strategies.prompt import PromptSettings

# Plain PyTorch's test accuracies, seeds 0 and 1: transformers' GPT2Model, float32, constant rates.
PYTORCH = {"full": [0.8900, 0.8986], "prompt": [0.8551, 0.8729], "partial": [0.8888, 0.8938]}
TFIDF = 0.8991  # TF-IDF (1, 2-grams) with logistic regression, the same rows


def configuration(model: str, data: str, output: str, runs: int) -> Config:
    """The comparison's settings; everything else is the default."""
    return Config(
        strategy="full,prompt,partial,head",
        output=output,
        model=ModelConfig(name=model),
        data=DataConfig(source=data, max_length=236, limit_train=20_000),
        train=TrainConfig(
            epochs=2, batch_size=32, seed=0, runs=runs, schedule="linear", warmup_fraction=0.05, clip_norm=1.0
        ),
        strategies={
            "full": FullSettings(learning_rate=5e-4),
            "prompt": PromptSettings(learning_rate=1e-2),
            "partial": PartialSettings(learning_rate=2e-4, top_multiplier=5.0),
        },
    )


def table(results: dict[str, Any], made: dict[str, Any]) -> str:
    """The measured accuracies beside plain PyTorch's, in Markdown."""
    lines = [
        "# Accuracy from a body that has learned English news",
        "",
        __doc__.split("\n\n", 1)[1].strip(),
        "",
        f"{made['date']}, commit {made['commit']}, {made['processor']}, JAX {made['jax']}, Python {made['python']}.",
        "",
        "| strategy | test accuracy by seed | mean | plain PyTorch by seed | its mean |",
        "|---|---|---|---|---|",
    ]
    for name, summary in results["summary"].items():
        ours = [run["test_accuracy"] for run in results["runs"] if run["strategy"] == name]
        theirs = PYTORCH.get(name, [])
        lines.append(
            f"| {name} | {', '.join(f'{a:.4f}' for a in ours)} | {summary['test_accuracy']['mean']:.4f} "
            f"| {', '.join(f'{a:.4f}' for a in theirs) or '-'} "
            f"| {f'{sum(theirs) / len(theirs):.4f}' if theirs else '-'} |"
        )
    lines += [
        f"| TF-IDF (1, 2-grams) + logistic regression | | {TFIDF:.4f} | | |",
        "",
        "The standard error of one accuracy on 7,600 texts is 0.35 points; constant rates make PyTorch's seeds",
        "differ by one to two. PyTorch trained on the first 18,000 rows and tested its last weights; here as many",
        "rows, drawn from the first 20,000, train, and the epoch that is best on the other 2,000 is tested.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Runs (or resumes) the comparison, and writes `results/accuracy.{json,md,png}`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="../shared/mini_gpt2")
    parser.add_argument("--data", default="../shared/ag_news_large")
    parser.add_argument("--output", default="runs/accuracy")
    parser.add_argument("--runs", type=int, default=2)
    arguments = parser.parse_args()
    config = configuration(arguments.model, arguments.data, arguments.output, arguments.runs)
    results = Experiment(config, chosen(config.strategy)).run()
    write_report(Path(arguments.output))
    figure = (Path(arguments.output) / "accuracy_curves.png").read_bytes()
    made = circumstances()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "accuracy.json").write_text(json.dumps({"made": made, **results}, indent=1) + "\n", "utf-8")
    (RESULTS / "accuracy.md").write_text(table(results, made), "utf-8")
    (RESULTS / "accuracy.png").write_bytes(figure)


if __name__ == "__main__":
    main()
